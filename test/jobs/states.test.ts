/** The table of states: which event takes a job from which state to which, and which events it refuses. */
import t from 'tap';
import { nextState, stateAfter } from '../../core/jobs/schedule/states.js';
import { ServiceError } from '../../core/primitives/service-error.js';

t.test('a backup returns to scheduled after each run, a oneshot ends as completed', async (t) => {
  t.equal(stateAfter('init', 'accept'), 'scheduled');
  t.equal(stateAfter('scheduled', 'due'), 'waiting');
  t.equal(stateAfter('waiting', 'start'), 'running');
  t.equal(stateAfter('running', 'end'), 'scheduled');
  t.equal(stateAfter('running', 'finish'), 'completed');
  t.equal(stateAfter('waiting', 'finish'), 'completed', 'stopped before it began');
  t.equal(stateAfter('completed', 'run'), 'waiting');
  t.equal(stateAfter('completed', 'edit'), 'scheduled');
});

t.test('an event that a state does not allow is refused', async (t) => {
  for (const code of ['waiting', 'running'] as const) {
    t.throws(() => stateAfter(code, 'run'), new ServiceError('busy', `the job is ${code}: run must wait until it has ended`));
  }
  t.equal(nextState('scheduled', 'start'), undefined, 'nothing runs without the queue');
  t.equal(nextState('completed', 'end'), undefined);
});
