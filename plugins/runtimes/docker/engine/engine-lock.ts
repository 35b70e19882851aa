/** The networks and the images of an engine have a lock each: two restores never make or remove the same one under each
 *  other. It is the kernel's (flock), and a child holds it that dies with its thread: it outlives nobody, so that nothing has
 *  to be taken over. */
import { once } from 'node:events';
import { PluginError } from '../../../../core/contract/index.js';
import { startChild } from '../../../shared/child.js';

/** Longest wait in seconds. An image is loaded under the lock, and a load that stalls is given up by its own run. */
const limit = 7200;
const expired = 75;

/** Does the work while no other thread that has this state folder holds the lock. Not reentrant.
 *  @throws PluginError aborted, in_use (retryable: the wait was too long), failed (flock could not be started) */
export async function withEngineLock<T>(
  stateFolder: string,
  what: 'networks' | 'images',
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const waiting = ['--no-fork', '--wait', String(limit), '--conflict-exit-code', String(expired)];
  const child = startChild('flock', [...waiting, `${stateFolder}/${what}.lock`, 'cat'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = once(child, 'close').catch(() => undefined); // an error of the start is told below
  const stop = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', (cause) => reject(new PluginError('failed', 'flock could not be started', { cause })));
      child.once('close', (code) =>
        reject(signal?.aborted ? new PluginError('aborted', 'Waiting for a lock was stopped') : refusal(what, code)),
      );
      child.stdin?.on('error', () => undefined); // a child that ended; its exit code tells
      child.stdout?.once('data', resolve); // cat runs, so flock has the lock
      child.stdin?.write('\n');
    });
    signal?.removeEventListener('abort', stop); // the work has the signal and ends by itself
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
