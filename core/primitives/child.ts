import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { PluginError } from '../contract/index.js';

/** Starts a command without a shell, in the C locale, as leader of its own process group. The command must itself die with the
 *  worker thread that started it. */
export function groupChild(command: string, args: readonly string[], stdio: SpawnOptions['stdio']): ChildProcess {
  const child = spawn(command, args, { stdio, detached: true, env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', TZ: 'UTC' } });
  // A leader that somebody else kills may leave children that hold its pipes open: a bwrap whose sandbox was not ready does.
  child.once('exit', (code) => {
    if (code !== 0 && child.pid !== undefined) killMembers(child.pid);
  });
  return child;
}

/** Starts a child that dies with the worker thread that started it (setpriv --pdeathsig). */
export function archiveChild(command: string, args: readonly string[], stdio: SpawnOptions['stdio']): ChildProcess {
  return groupChild('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], stdio);
}

/** Kills a child and its process group. bwrap killed alone, before its sandbox is ready, leaves a child behind that waits for it
 *  for ever. */
function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid !== undefined && exitCode === null && signalCode === null) killMembers(pid);
}

/** Kills every process of a group. */
function killMembers(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch {
    // ESRCH: the group is empty
  }
}

/** Packages of the programs by which others are started. */
const packages: Readonly<Record<string, string>> = { bwrap: 'bubblewrap', setpriv: 'util-linux' };

function notStarted(name: string, program: string, cause: Error): PluginError {
  const absent = 'code' in cause && cause.code === 'ENOENT';
  if (!absent) return new PluginError('failed', `${name} could not be started`, { cause });
  const message = `${program} is not installed on this appliance, and ${name} never runs without it: install the package ${packages[program] ?? program}`;
  return new PluginError('unavailable', message, { cause });
}

/** Resolves with the child's exit code. @throws PluginError aborted, unavailable, failed */
export function childExit(child: ChildProcess, name: string, signal: AbortSignal): Promise<number> {
  const abort = () => killGroup(child);
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const exit = new Promise<number>((resolve, reject) => {
    child.once('error', (cause) => reject(notStarted(name, child.spawnfile, cause)));
    child.once('close', (code, killed) => {
      signal.removeEventListener('abort', abort);
      // bwrap, like a shell, reports a signal that ended its child as 128 plus the signal's number
      const by = code !== null && code > 128 ? `signal ${code - 128}` : killed;
      if (signal.aborted) reject(new PluginError('aborted', `${name} was cancelled`));
      else if (code === null || code > 128) reject(new PluginError('failed', `${name} was killed by ${by}`, { retryable: true }));
      else resolve(code);
    });
  });
  exit.catch(() => undefined); // readers of the output get the error; this only marks it as handled
  return exit;
}

/** The child's output. It ends only after `ended` has resolved, so that a reader never takes a failed child's output for
 *  complete. It waits for a reader, however late. */
export function runForOutput(child: ChildProcess, ended: () => Promise<void>): Readable {
  // When a child exits, Node discards what nobody has begun to read. The generator begins only when its reader does.
  child.stdout?.on('readable', () => undefined);
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

/** Collects the beginning of what a child writes to its standard error. @returns a function for the text so far */
export function errorsOf(child: ChildProcess, most = 1000): () => string {
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < most) said += text;
  });
  return () => said;
}

/** Runs a child to its end. @returns its exit code and the first 64 KiB of each output @throws PluginError aborted, unavailable,
 *  failed */
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
