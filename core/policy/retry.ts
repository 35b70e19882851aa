import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError } from '../contract/index.js';

export interface RetryOptions {
  /** Waits before each further try, in ms. Their number is the number of retries. */
  readonly delays: readonly number[];
  readonly signal: AbortSignal;
  /** Called after a failure; false ends the retries. */
  mayRetry?(): boolean;
  /** Called before each wait. `attempt` is the number of the next try, from 2. */
  onRetry?(error: PluginError, ms: number, attempt: number): void;
}

/** For brief calls: the connection broke for a moment, or the server restarts. */
export const briefWaits: readonly number[] = [500, 2_000, 5_000, 10_000];
/** For an archive that is sent again from its start: the network and the server have a minute to come back. */
export const longWaits: readonly number[] = [2_000, 15_000, 45_000];

/** Half of the wait is random (jitter). So jobs that failed together do not retry together. */
const withJitter = (ms: number): number => Math.round(ms * (0.5 + Math.random() / 2));

/** Whether a retry may succeed without any change. */
const isRetryable = (error: unknown): error is PluginError => error instanceof PluginError && error.retryable;

/** Waits before the try after `failed` failures. @throws the error when there is no further try */
export async function beforeNextTry(error: unknown, failed: number, o: RetryOptions): Promise<void> {
  const wait = o.delays[failed - 1];
  if (!isRetryable(error) || wait === undefined || o.signal.aborted || o.mayRetry?.() === false) throw error;
  const ms = withJitter(wait);
  o.onRetry?.(error, ms, failed + 1);
  await sleep(ms, undefined, { signal: o.signal }).catch(() => {
    throw new PluginError('aborted', 'stopped', { cause: error });
  });
}

/** Runs `work`, and again after a retryable error. @throws the last error */
export async function retry<T>(work: () => Promise<T>, o: RetryOptions): Promise<T> {
  for (let failed = 1; ; failed++) {
    try {
      return await work();
    } catch (error) {
      await beforeNextTry(error, failed, o);
    }
  }
}
