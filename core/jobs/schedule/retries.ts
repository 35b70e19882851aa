/** A backup that fails for a reason that may pass by itself is tried again before its next time. */
import type { JobState } from '../job.js';
import type { RunResult } from '../worker/launcher.js';

/** Whether what is due is a further attempt, and not the job's next time. */
export function isRetryDue({ retry, next_run }: JobState, now: number): boolean {
  return retry?.at !== undefined && retry.at <= now && (next_run === undefined || now < next_run);
}

/** When the job is due: at its next time, or before it for a further attempt. */
export function dueTime({ next_run, retry }: JobState): number | undefined {
  if (retry?.at === undefined) return next_run;
  return next_run === undefined ? retry.at : Math.min(next_run, retry.at);
}

/** What of a further attempt is said once it waits or runs. */
export function goingOn({ attempt, reason }: NonNullable<JobState['retry']>): NonNullable<JobState['retry']> {
  return { attempt, reason };
}

export interface RetryPlan {
  /** Of the attempt that failed, from 1. */
  readonly attempt: number;
  readonly now: number;
  readonly nextRun: number | undefined;
  /** Waits before each further attempt, ms. */
  readonly waits: readonly number[];
}

/** The attempt that follows a failure; none when the error does not pass by itself, when all were made, or when the next time comes first. */
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
