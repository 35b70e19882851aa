import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { PluginError } from '../../../core/contract/index.js';

/** Starts a child without a shell, in the C locale. It dies with the thread that started it: setpriv has the kernel send SIGKILL
 *  when that thread ends, so no child outlives its job. */
export function startChild(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
    ...options,
    shell: false,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
  });
}

export interface ChildResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const outputLimit = 1 << 20;

/** Runs a child to its end and returns its exit code and output (the first MiB of each).
 *  @throws PluginError aborted, failed (could not be started or was killed) */
export async function childResult(
  command: string,
  args: readonly string[],
  o: { signal?: AbortSignal; input?: string | Buffer; cwd?: string } = {},
): Promise<ChildResult> {
  const child = startChild(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...(o.cwd === undefined ? {} : { cwd: o.cwd }) });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (chunk: string) => {
      if (texts[name].length < outputLimit) texts[name] += chunk;
    });
  }
  child.stdin?.on('error', () => undefined); // EPIPE: a child that reads nothing closes its input; its exit code decides
  child.stdin?.end(o.input ?? '');
  const abort = () => child.kill('SIGKILL');
  o.signal?.addEventListener('abort', abort, { once: true });
  if (o.signal?.aborted) abort();
  try {
    return await new Promise<ChildResult>((resolve, reject) => {
      child.once('error', (cause) => reject(new PluginError('failed', `${command} could not be started`, { cause })));
      child.once('close', (code, signal) => {
        if (o.signal?.aborted) reject(new PluginError('aborted', `${command} was cancelled`));
        else if (code === null) reject(new PluginError('failed', `${command} was killed by ${signal}`));
        else resolve({ code, ...texts });
      });
    });
  } finally {
    o.signal?.removeEventListener('abort', abort);
  }
}

/** As childResult, but an exit code other than 0 throws the child's output. @throws PluginError aborted, failed */
export async function childOutput(
  command: string,
  args: readonly string[],
  o: { signal?: AbortSignal; input?: string | Buffer; cwd?: string } = {},
): Promise<string> {
  const result = await childResult(command, args, o);
  if (result.code === 0) return result.stdout;
  throw new PluginError('failed', `${command} ended with ${result.code}: ${result.stderr.trim() || result.stdout.trim()}`);
}
