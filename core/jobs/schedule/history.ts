/** Notes the end of each run, good or bad: a row in the job's history, a line in the log, and an event. */
import type { PluginLog } from '../../contract/plugin.js';
import type { HistoryRow, HistoryRows } from '../job.js';
import type { RunResult } from '../worker/launcher.js';
import type { EventBus } from './events.js';

/** The job of an ended run, what the run was about, and why it ran. */
export type EndedRun = Pick<
  HistoryRow,
  'kind' | 'job' | 'job_name' | 'type' | 'container' | 'location' | 'began' | 'ended' | 'reason' | 'attempt'
>;

export interface HistoryDeps {
  readonly history: HistoryRows;
  readonly events: EventBus;
  readonly log: PluginLog;
}

const words = { 0: 'succeeded', [-1]: 'failed', [-2]: 'was stopped' } as const;

/** Never rejects: a history that cannot be written, on a full disk say, must not lose the run's result. */
export async function noteEnd({ history, events, log }: HistoryDeps, run: EndedRun, outcome: RunResult): Promise<void> {
  const { type: _type, conflicts: _conflicts, undo: _undo, emptied: _emptied, owner: _owner, retryable: _retryable, ...kept } = outcome;
  const { error, bytes, pause_ms } = outcome;
  const seconds = Math.round((run.ended - run.began) / 100) / 10;
  const detail = { seconds, attempt: run.attempt, run: outcome.run, bytes, pause_ms, code: error?.code, error: error?.message };
  log(outcome.result === -1 ? 'warn' : 'info', `${run.kind} ${run.job} (${run.job_name}) ${words[outcome.result]}`, detail);
  try {
    events.publish({ type: 'run', row: await history.append({ ...run, ...kept }) });
  } catch (cause) {
    log('warn', `the history of ${run.kind} ${run.job} could not be written: ${cause}`);
  }
}
