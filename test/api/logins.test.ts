/** Many logins at once. The service checks a few at a time, which bounds memory, and answers 503 to those that would wait long. */
import t from 'tap';
import { start } from './harness.js';

t.test('500 logins at once take bounded memory, and a right one succeeds afterwards', async (t) => {
  const h = await start();
  t.teardown(() => h.close());
  await h.store.users.createFirst('admin', 'correct horse');
  await h.ask('POST', '/api/v1/login', 'username=admin&password=correct+horse');
  const before = process.memoryUsage.rss();
  let peak = before;
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 5);
  // Each of a name of its own: the limit on wrong guesses is another one.
  const answers = await Promise.all(
    Array.from({ length: 500 }, (_, n) => h.ask('POST', '/api/v1/login', `username=guest-${n}&password=wrong`)),
  );
  clearInterval(watch);
  const counts = new Map<number, number>();
  for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1);
  t.comment(`${JSON.stringify([...counts])}, ${Math.round((peak - before) / 2 ** 20)} MiB more`);
  t.same([...counts.keys()].sort(), [401, 503], 'refused as wrong, or told to come again');
  t.ok(peak - before < 120 * 2 ** 20, `${peak - before} bytes more`);
  const busy = answers.find(({ status }) => status === 503);
  t.match(busy?.json, { error: { message: /too many logins at a time; try again/ } });
  t.equal((await h.ask('POST', '/api/v1/login', 'username=admin&password=correct+horse')).status, 200);
});

t.test('a login answered with 503 does not count as a wrong guess', async (t) => {
  const h = await start();
  t.teardown(() => h.close());
  await h.store.users.createFirst('admin', 'correct horse');
  const crowd = Array.from({ length: 200 }, (_, n) => h.ask('POST', '/api/v1/login', `username=guest-${n}&password=wrong`));
  const refused: number[] = [];
  for (let n = 0; n < 6; n++) refused.push((await h.ask('POST', '/api/v1/login', 'username=admin&password=correct+horse')).status);
  await Promise.all(crowd);
  t.notOk(refused.includes(429), `${refused}`);
  t.equal((await h.ask('POST', '/api/v1/login', 'username=admin&password=correct+horse')).status, 200);
});
