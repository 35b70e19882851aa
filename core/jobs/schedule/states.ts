/** The states of a job as one table: state × event → state. No other change can happen. */
import { ServiceError } from '../../primitives/service-error.js';
import type { StateCode } from '../job.js';

export type JobEvent =
  | 'accept' // the schedule accepted the job
  | 'edit' // its settings were changed, and it has a next run
  | 'due' // its time has come
  | 'run' // a client asks for a run
  | 'start' // it left the queue and runs
  | 'end' // a run ended, was stopped or was interrupted, and the job has a future
  | 'finish'; // the same for a past oneshot, and for a restore

const table: Readonly<Record<StateCode, Partial<Readonly<Record<JobEvent, StateCode>>>>> = {
  init: { accept: 'scheduled', edit: 'init', due: 'waiting', run: 'waiting' },
  scheduled: { accept: 'scheduled', edit: 'scheduled', due: 'waiting', run: 'waiting' },
  waiting: { start: 'running', edit: 'waiting', end: 'scheduled', finish: 'completed' },
  running: { edit: 'running', end: 'scheduled', finish: 'completed' },
  completed: { edit: 'scheduled', due: 'waiting', run: 'waiting' },
};

/** The state after an event, undefined when the event cannot happen in that state. */
export function nextState(state: StateCode, event: JobEvent): StateCode | undefined {
  return table[state][event];
}

/** @throws ServiceError busy when the event cannot happen now */
export function stateAfter(state: StateCode, event: JobEvent): StateCode {
  const next = nextState(state, event);
  if (next === undefined) throw new ServiceError('busy', `the job is ${state}: ${event} must wait until it has ended`);
  return next;
}
