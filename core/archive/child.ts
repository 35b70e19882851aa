import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { PluginError } from '../contract/index.js';

/** Starts a child that dies with the worker thread that started it, without a shell, in the C locale. */
export function archiveChild(command: string, args: readonly string[], stdio: SpawnOptions['stdio']): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
    stdio,
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' },
  });
}

/** The child's end: its exit code. @throws PluginError aborted, failed */
export function childExit(child: ChildProcess, name: string, signal: AbortSignal): Promise<number> {
  const abort = () => child.kill('SIGKILL');
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const exit = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => reject(new PluginError('failed', `${name} could not be started`, { cause })));
    child.once('close', (code, killed) => {
      signal.removeEventListener('abort', abort);
      if (signal.aborted) reject(new PluginError('aborted', `${name} was stopped`));
      else if (code === null) reject(new PluginError('failed', `${name} was killed by ${killed}`, { retryable: true }));
      else resolve(code);
    });
  });
  exit.catch(() => undefined); // whoever reads the output is told; nobody may be waiting yet
  return exit;
}

/** The child's output, which ends only after `ended` has approved: a reader never takes a failed child's
 *  output for whole. */
export function checkedOutput(child: ChildProcess, ended: () => Promise<void>): Readable {
  async function* chunks(): AsyncGenerator<Buffer> {
    try {
      if (child.stdout) for await (const chunk of child.stdout) yield chunk;
      await ended();
    } finally {
      if (child.exitCode === null) child.kill('SIGKILL');
    }
  }
  return Readable.from(chunks(), { objectMode: false, highWaterMark: 1 << 20 });
}

/** Runs a child to its end and gives its exit code and the first 64 KiB of each output. @throws PluginError aborted, failed */
export async function childOutcome(
  command: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const child = archiveChild(command, args, ['ignore', 'pipe', 'pipe']);
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      if (texts[name].length < 65_536) texts[name] += chunk;
    });
  }
  const code = await childExit(child, command, signal);
  return { code, ...texts };
}
