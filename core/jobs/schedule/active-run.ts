/** A job's run from its place in the queue to its end, and what of the job's state outlasts it. */
import { isDeepStrictEqual } from 'node:util';
import { PluginError } from '../../contract/index.js';
import type { HistoryRow, JobState, Location } from '../job.js';
import type { Run, RunResult } from '../worker/launcher.js';

/** A run that waits or runs. */
export interface ActiveRun<Spec> {
  readonly ended: Promise<void>;
  readonly end: () => void;
  run?: Run;
  /** The settings that its locks were taken for, and that it runs with; an Error when the store failed. */
  claimed?: Spec | Error;
  stop?: 'user' | 'shutdown';
  /** Why it runs, and which attempt it is. */
  readonly reason: HistoryRow['reason'];
  readonly attempt: number;
}

export const interruption = { code: 'interrupted', message: 'the service ended during the run; run the job again' };

export function errorOf(error: unknown): { readonly code: string; readonly message: string } {
  return error instanceof PluginError ? { code: error.code, message: error.message } : { code: 'io', message: `${error}` };
}

export function newActiveRun<Spec>(why: Pick<ActiveRun<Spec>, 'reason' | 'attempt'>): ActiveRun<Spec> {
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { ended, end, ...why };
}

export function stopResult(why: 'user' | 'shutdown'): RunResult {
  return why === 'user' ? { type: 'result', result: -2 } : { type: 'result', result: -1, error: interruption };
}

/** The parts of a job's state that outlast a run, unless the run brings new ones. A restore that succeeds ends the undo of the one
 *  before. A backup that succeeds has searched for empty sources anew, has used earlier confirmations, and owns its record. A permission
 *  to take over stays only while the same owner is in the way. */
export function keepLasting(state: JobState, outcome: Pick<RunResult, 'result' | 'emptied' | 'owner'>): Partial<JobState> {
  const { last_run, missed, run, undo, emptied, take_over } = state;
  const succeeded = outcome.result === 0;
  const confirmed = state.confirmed?.filter((name) => !succeeded || outcome.emptied?.includes(name)) ?? [];
  return {
    ...(last_run !== undefined && { last_run }),
    ...(missed && { missed }),
    ...(run !== undefined && { run }),
    ...(!succeeded && { ...(undo && { undo }), ...(emptied && { emptied }) }),
    ...(confirmed.length > 0 && { confirmed }),
    ...(take_over && !succeeded && isDeepStrictEqual(outcome.owner ?? take_over, take_over) && { take_over }),
  };
}

/** The settings that tell where a job's record is. */
export interface Recorded {
  readonly job_name: string;
  readonly dest?: Location;
}

/** The state after an edit. With another record the owner of the old one no longer matters. */
export function applyEdit(state: JobState, old: Recorded, spec: Recorded): JobState {
  const { owner: _, take_over: __, ...rest } = state;
  return old.job_name === spec.job_name && isDeepStrictEqual(old.dest, spec.dest) ? state : rest;
}
