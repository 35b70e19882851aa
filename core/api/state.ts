/** A job's state as an answer tells it. */
import type { At, JobRow, JobService, JobState } from '../jobs/job.js';
import { localTime } from './values.js';

const stamp = (ms: number) => new Date(ms).toISOString();

/** What the seed knows. */
function seedState(state: JobState, next: number | undefined, progress: number | undefined): object {
  return {
    code: state.code,
    ...(state.last_run === undefined ? {} : { last_run: localTime(state.last_run) }),
    ...(next === undefined ? {} : { next_run: localTime(next) }),
    ...(progress === undefined ? {} : { progress }),
    ...(state.result === undefined ? {} : { result: state.result }),
  };
}

/** What `?view=full` adds. */
function richState(state: JobState, next: number | undefined): object {
  const { code: _code, result: _result, last_run, next_run: _next, undo, ...rich } = state;
  return {
    ...rich,
    ...(undo === undefined ? {} : { undo: { ...undo, until: stamp(undo.until) } }),
    ...(last_run === undefined ? {} : { last_run_at: stamp(last_run) }),
    ...(next === undefined ? {} : { next_run_at: stamp(next) }),
  };
}

export function showState(
  jobs: JobService,
  kind: 'backup' | 'restore',
  row: JobRow<{ readonly disable: boolean; readonly at?: At }>,
  full: boolean,
): object {
  const { state, spec } = row;
  const next = spec.disable || spec.at === undefined ? undefined : (state.next_run ?? jobs.nextRun(spec.at));
  const progress = state.code === 'running' ? (jobs.progressOf(kind, row.id) ?? -1) : undefined;
  return { ...seedState(state, next, progress), ...(full ? richState(state, next) : {}) };
}
