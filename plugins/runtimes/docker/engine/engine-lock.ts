/** One flock for an engine's networks and one for its images: two restores never create or remove the same one at the same time.
 *  A child holds the lock and dies with its thread, so the kernel frees the lock and no stale one is left. */
import { once } from 'node:events';
import { PluginError } from '../../../../core/contract/index.js';
import { startChild } from '../../../shared/primitives/child.js';

/** Longest wait in seconds. An image load runs under the lock; the run that loads aborts a stalled load itself. */
const limit = 7200;
const expired = 75;

/** Runs `work` while no other thread with the same state folder holds the lock. Not reentrant.
 *  @throws PluginError aborted, in_use (retryable: the wait took too long), failed (flock did not start) */
export async function withEngineLock<T>(
  stateFolder: string,
  what: 'networks' | 'images',
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const waiting = ['--no-fork', '--wait', String(limit), '--conflict-exit-code', String(expired)];
  const child = startChild('flock', [...waiting, `${stateFolder}/${what}.lock`, 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = once(child, 'close').catch(() => undefined); // the promise below reports a failed start
  const stop = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', (cause) => reject(new PluginError('failed', 'flock could not be started', { cause })));
      child.once('close', (code) =>
        reject(signal?.aborted ? new PluginError('aborted', 'Waiting for a lock was cancelled') : refusal(what, code)),
      );
      child.stdin?.on('error', () => undefined); // EPIPE of a child that ended; its exit code says why
      child.stdout?.once('data', resolve); // cat answers, so flock holds the lock
      child.stdin?.write('\n');
    });
    signal?.removeEventListener('abort', stop); // from here on `work` reacts to the signal
    return await work();
  } finally {
    signal?.removeEventListener('abort', stop);
    stop();
    await ended;
  }
}

function refusal(what: string, code: number | null): PluginError {
  if (code !== expired) return new PluginError('failed', `flock ended with ${code} instead of locking Docker's ${what}`);
  return new PluginError('in_use', `Another restore has held Docker's ${what} for too long: try again later`, { retryable: true });
}
