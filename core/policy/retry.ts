import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError } from '../contract/index.js';

export interface RetryOptions {
  /** Waits before each further try, in ms; as many as there are, so often it is tried again. */
  readonly delays: readonly number[];
  readonly signal: AbortSignal;
  /** Asked after a failure: whether it may be tried again at all. */
  mayRetry?(): boolean;
  /** Told before each wait; `attempt` is the try that comes, from 2. */
  onRetry?(error: PluginError, ms: number, attempt: number): void;
}

/** A short answer that did not come: the connection may have been cut for a moment, or a server is being restarted. */
export const briefWaits: readonly number[] = [500, 2_000, 5_000, 10_000];
/** An archive that has to start over: a link that was cut, or a server that starts anew, has a minute to be back. */
export const longWaits: readonly number[] = [2_000, 15_000, 45_000];

/** Half of it is chance, so that jobs that were cut off together do not come back together. */
const withJitter = (ms: number): number => Math.round(ms * (0.5 + Math.random() / 2));

/** Whether trying again may help without anybody changing anything. */
const isRetryable = (error: unknown): error is PluginError => error instanceof PluginError && error.retryable;

/** Waits before the try that comes after `failed` failures. @throws the error when it may not or need not be tried again */
export async function beforeNextTry(error: unknown, failed: number, o: RetryOptions): Promise<void> {
  const wait = o.delays[failed - 1];
  if (!isRetryable(error) || wait === undefined || o.signal.aborted || o.mayRetry?.() === false) throw error;
  const ms = withJitter(wait);
  o.onRetry?.(error, ms, failed + 1);
  await sleep(ms, undefined, { signal: o.signal }).catch(() => {
    throw new PluginError('aborted', 'stopped', { cause: error });
  });
}

/** Does it, and again when it fails with a retryable error. @throws the last error */
export async function retry<T>(work: () => Promise<T>, o: RetryOptions): Promise<T> {
  for (let failed = 1; ; failed++) {
    try {
      return await work();
    } catch (error) {
      await beforeNextTry(error, failed, o);
    }
  }
}
