import t from 'tap';
import { runsToDelete } from '../../core/jobs/retention.js';

t.test('the newest stay', async (t) => {
  t.strictSame(runsToDelete(['4', '3', '2', '1'], 2), ['2', '1']);
  t.strictSame(runsToDelete(['4', '3'], 2), []);
  t.strictSame(runsToDelete(['4', '3'], 5), []);
  t.strictSame(runsToDelete(['4', '3', '2'], 0), [], '0 keeps all');
  t.strictSame(runsToDelete([], 2), []);
});
