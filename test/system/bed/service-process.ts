/** Starts the service from a command line, with any flags and variables, and collects all its output. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { serviceCommand } from '../../support/service-command.js';

export interface ServiceProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Its output so far. */
  readonly said: { stdout: string; stderr: string };
  /** Its exit code, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** Waits until its standard output matches. @throws Error when it ended before */
  announces(pattern: RegExp): Promise<RegExpExecArray>;
}

/** The environment without variables that would configure the service. */
function cleanEnvironment(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('CONTAINER_BACKUP_'));
  return { ...Object.fromEntries(own), ...more };
}

export interface ProcessOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export function startProcess(args: readonly string[], { environment = {}, cwd }: ProcessOptions = {}): ServiceProcess {
  const env = cleanEnvironment(environment);
  const child = spawn(...serviceCommand(args), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
    ...(cwd !== undefined && { cwd }),
  });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
    });
  }
  const ended = once(child, 'close').then(([code, signal]): number | string => (typeof code === 'number' ? code : String(signal)));
  let over = false;
  void ended.then(() => {
    over = true;
  });
  return {
    child,
    said,
    ended,
    async announces(pattern) {
      for (;;) {
        const found = pattern.exec(said.stdout);
        if (found) return found;
        if (over) throw new Error(`the service ended before it said ${pattern}: ${said.stderr}`);
        await sleep(10);
      }
    },
    async [Symbol.asyncDispose]() {
      if (over) return;
      child.kill('SIGTERM');
      const killer = setTimeout(() => child.kill('SIGKILL'), 15_000);
      await ended;
      clearTimeout(killer);
    },
  };
}

/** Runs the command and waits for its end. */
export async function runToEnd(
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<{ readonly code: number | string; readonly stdout: string; readonly stderr: string }> {
  await using started = startProcess(args, options);
  const code = await Promise.race([started.ended, sleep(20_000, 'it goes on' as const, { ref: false })]);
  return { code, ...started.said };
}
