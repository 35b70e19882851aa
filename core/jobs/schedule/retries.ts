/** Retries of a failed backup before its next time, when its error is retryable. */
import type { JobState } from '../job.js';
import type { RunResult } from '../worker/launcher.js';

/** Whether a further attempt is due, and not the job's next time. */
export function isRetryDue({ retry, next_run }: JobState, now: number): boolean {
  return retry?.at !== undefined && retry.at <= now && (next_run === undefined || now < next_run);
}

/** The job's due time: its next time, or that of a further attempt before it. */
export function dueTime({ next_run, retry }: JobState): number | undefined {
  if (retry?.at === undefined) return next_run;
  return next_run === undefined ? retry.at : Math.min(next_run, retry.at);
}

/** The further attempt once it waits or runs: its time no longer counts. */
export function goingOn({ attempt, reason }: NonNullable<JobState['retry']>): NonNullable<JobState['retry']> {
  return { attempt, reason };
}

export interface RetryPlan {
  /** Number of the attempt that failed, from 1. */
  readonly attempt: number;
  readonly now: number;
  readonly nextRun: number | undefined;
  /** Waits before each further attempt, ms. */
  readonly waits: readonly number[];
}

/** The attempt after a failure; undefined when the error is not retryable, when all attempts were made, or when the next time comes
 *  first. */
export function retryAfter(
  { result, retryable, error }: Pick<RunResult, 'result' | 'retryable' | 'error'>,
  { attempt, now, nextRun, waits }: RetryPlan,
): NonNullable<JobState['retry']> | undefined {
  const wait = waits[attempt - 1];
  if (result !== -1 || !retryable || wait === undefined) return undefined;
  const at = now + wait;
  if (nextRun !== undefined && at >= nextRun) return undefined;
  return { attempt: attempt + 1, at, reason: error?.code ?? 'failed' };
}
