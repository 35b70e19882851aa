import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { PluginError } from '../contract/index.js';

/** Starts a command without a shell, in the C locale and at the head of a process group of its own. It must see to it
 *  that it dies with the worker thread that started it. */
export function groupChild(command: string, args: readonly string[], stdio: SpawnOptions['stdio']): ChildProcess {
  return spawn(command, args, { stdio, detached: true, env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' } });
}

/** Starts a child that dies with the worker thread that started it. */
export function archiveChild(command: string, args: readonly string[], stdio: SpawnOptions['stdio']): ChildProcess {
  return groupChild('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], stdio);
}

/** Kills a child and all that it has started: a bwrap that is killed alone, before its sandbox stands, leaves one behind
 *  that waits for it for ever. */
function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // it ended this moment, and its exit is told next
  }
}

/** The packages of the programs that stand before others. */
const packages: Readonly<Record<string, string>> = { bwrap: 'bubblewrap', setpriv: 'util-linux' };

function notStarted(name: string, program: string, cause: Error): PluginError {
  const absent = 'code' in cause && cause.code === 'ENOENT';
  if (!absent) return new PluginError('failed', `${name} could not be started`, { cause });
  const message = `${program} is not installed on this appliance, and ${name} never runs without it: install the package ${packages[program] ?? program}`;
  return new PluginError('unavailable', message, { cause });
}

/** The child's end: its exit code. @throws PluginError aborted, unavailable, failed */
export function childExit(child: ChildProcess, name: string, signal: AbortSignal): Promise<number> {
  const abort = () => killGroup(child);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const exit = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => reject(notStarted(name, child.spawnfile, cause)));
    child.once('close', (code, killed) => {
      signal.removeEventListener('abort', abort);
      // bwrap tells of a signal that ended its child by 128 and the signal's number, as a shell does
      const by = code !== null && code > 128 ? `signal ${code - 128}` : killed;
      if (signal.aborted) reject(new PluginError('aborted', `${name} was stopped`));
      else if (code === null || code > 128) reject(new PluginError('failed', `${name} was killed by ${by}`, { retryable: true }));
      else resolve(code);
    });
  });
  exit.catch(() => undefined); // whoever reads the output is told; nobody may be waiting yet
  return exit;
}

/** The child's output, which ends only after `ended` has approved: a reader never takes a failed child's
 *  output for whole. */
export function runForOutput(child: ChildProcess, ended: () => Promise<void>): Readable {
  async function* chunks(): AsyncGenerator<Buffer> {
    try {
      if (child.stdout) for await (const chunk of child.stdout) yield chunk;
      await ended();
    } finally {
      killGroup(child);
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
