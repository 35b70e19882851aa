/** The due list finds the next job by its time, after any changes. */
import t from 'tap';
import { DueTimes } from '../../core/jobs/schedule/due.js';

t.test('the due list stays sorted over changes and removals', async (t) => {
  const due = new DueTimes();
  const times = new Map<number, number>();
  for (let step = 0; step < 3000; step++) {
    const id = (step * 7919) % 97;
    const time = (step * 104_729) % 211;
    const gone = step % 5 === 0;
    due.set(id, gone ? undefined : time);
    if (gone) times.delete(id);
    else times.set(id, time);
    if (step % 50 !== 0) continue;
    const now = step % 211;
    const wanted = [...times].filter(([, at]) => at <= now).sort(([a, x], [b, y]) => x - y || a - b);
    if (JSON.stringify(due.until(now)) !== JSON.stringify(wanted)) t.same(due.until(now), wanted, `step ${step}`);
    t.equal(due.after(now), [...times.values()].filter((at) => at > now).sort((a, b) => a - b)[0], `step ${step}`);
  }
});
