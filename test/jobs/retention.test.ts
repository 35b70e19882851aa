import t from 'tap';
import { runsToDelete } from '../../core/jobs/run/record/retention.js';

/** `4!` failed its last verification. */
const runs = (...names: string[]) =>
  names.map((name) => (name.endsWith('!') ? { run: name.slice(0, -1), failed: ['image.tar'] } : { run: name }));

t.test('retention keeps the newest runs', async (t) => {
  t.strictSame(runsToDelete(runs('4', '3', '2', '1'), 2), ['2', '1']);
  t.strictSame(runsToDelete(runs('4', '3'), 2), []);
  t.strictSame(runsToDelete(runs('4', '3'), 5), []);
  t.strictSame(runsToDelete(runs('4', '3', '2'), 0), [], '0 keeps all');
  t.strictSame(runsToDelete([], 2), []);
});

t.test('retention does not count a run with a failed verification, and keeps it as long as the next newer good run', async (t) => {
  t.strictSame(runsToDelete(runs('5', '4!', '3!', '2', '1'), 2), ['1']);
  t.strictSame(runsToDelete(runs('5!', '4!', '3!', '2', '1'), 2), []);
  t.strictSame(runsToDelete(runs('5', '4', '3!', '2!', '1'), 2), ['1'], 'what is older than those that stay, with the next whole one');
  t.strictSame(runsToDelete(runs('5', '4', '3!'), 2), []);
});
