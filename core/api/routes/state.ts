/** Shows a job's state in an answer. */
import type { At, JobKind, JobRow, JobService, JobState } from '../../jobs/job.js';
import { localTime } from '../values.js';

const stamp = (ms: number) => new Date(ms).toISOString();

/** Keys of the plain answer. */
function basicState(state: JobState, next: number | undefined, progress: number | undefined): object {
  return {
    code: state.code,
    ...(state.last_run === undefined ? {} : { last_run: localTime(state.last_run) }),
    ...(next === undefined ? {} : { next_run: localTime(next) }),
    ...(progress === undefined ? {} : { progress }),
    ...(state.result === undefined ? {} : { result: state.result }),
  };
}

/** Keys that `?view=full` adds. A waiting or running job shows nothing of its earlier run, which is in the history. */
function fullState(state: JobState, next: number | undefined, live: JobState['retry']): object {
  const { code, result, last_run, next_run: _next, undo, retry: planned, running: _running, ...rest } = state;
  const { error, bytes, duration, pause_ms, run, conflicts, places, warnings, ...lasting } = rest;
  const ofRun = { error, bytes, duration, pause_ms, conflicts, places, warnings, ...(result === 0 && { run }) };
  const retry = live ?? planned;
  return {
    ...lasting,
    ...(code === 'waiting' || code === 'running' ? {} : ofRun),
    ...(retry && { attempt: retry.attempt, reason: retry.reason, ...(retry.at !== undefined && { retry_at: stamp(retry.at) }) }),
    ...(undo === undefined ? {} : { undo: { ...undo, until: stamp(undo.until) } }),
    ...(last_run === undefined ? {} : { last_run_at: stamp(last_run) }),
    ...(next === undefined ? {} : { next_run_at: stamp(next) }),
  };
}

export function showState(
  jobs: JobService,
  kind: JobKind,
  row: JobRow<{ readonly disable: boolean; readonly at?: At }>,
  full: boolean,
): object {
  const { state, spec } = row;
  const next = spec.disable || spec.at === undefined ? undefined : (state.next_run ?? jobs.nextRun(spec.at));
  const expected = full && state.code === 'running' ? jobs.expectedPauseOf(kind, row.id) : undefined;
  const progress = state.code === 'running' ? (jobs.progressOf(kind, row.id) ?? -1) : undefined;
  return {
    ...basicState(state, next, progress),
    ...(full ? fullState(state, next, jobs.retryOf(kind, row.id)) : {}),
    ...(expected !== undefined && { expected_pause_ms: expected }),
  };
}
