/** How many runs go on at once, and in which order they start. */
import { setImmediate as nextTick } from 'node:timers/promises';
import t from 'tap';
import { createQueue } from '../../core/jobs/schedule/queue.js';

function bench(t: { fail(message: string): unknown }, start: number) {
  let limit = start;
  const running = new Map<string, () => void>();
  const queue = createQueue(
    async () => limit,
    (error) => t.fail(`${error}`),
  );
  const enter = (key: string, container = key) =>
    queue.enter({
      key,
      locks: async () => [{ key: container, mode: 'exclusive' }],
      start: () => new Promise((resolve) => running.set(key, resolve)),
    });
  const end = async (key: string) => {
    running.get(key)?.();
    running.delete(key);
    await nextTick();
  };
  return { queue, running, enter, end, limit: (value: number) => (limit = value) };
}

t.test('the queue starts runs in their order, up to the limit', async (t) => {
  const { running, enter, end, queue, limit } = bench(t, 2);
  for (const key of ['a', 'b', 'c', 'd']) enter(key);
  await nextTick();
  t.strictSame([...running.keys()], ['a', 'b']);
  await end('b');
  t.strictSame([...running.keys()], ['a', 'c']);
  limit(3);
  queue.pump();
  await nextTick();
  t.strictSame([...running.keys()], ['a', 'c', 'd'], 'a raised limit');
});

t.test('a container has one run at a time, and runs of other containers overtake', async (t) => {
  const { running, enter, end } = bench(t, 2);
  enter('a', 'x');
  enter('b', 'x');
  enter('c', 'y');
  await nextTick();
  t.strictSame([...running.keys()], ['a', 'c']);
  await end('a');
  t.strictSame([...running.keys()], ['c', 'b']);
});

t.test('a waiting run can leave the queue, and a closed queue starts nothing', async (t) => {
  const { running, enter, end, queue } = bench(t, 1);
  for (const key of ['a', 'b', 'c']) enter(key);
  await nextTick();
  t.equal(queue.leave('a'), false, 'it runs');
  t.equal(queue.leave('b'), true);
  await end('a');
  t.strictSame([...running.keys()], ['c']);
  enter('d');
  queue.close();
  await end('c');
  t.strictSame(queue.counts(), { waiting: 1, running: 0 });
});

t.test('a held queue starts nothing until every hold is released', async (t) => {
  const { running, enter, end, queue } = bench(t, 2);
  enter('a');
  await nextTick();
  const [first, second] = [queue.hold(), queue.hold()];
  enter('b');
  await nextTick();
  t.strictSame([...running.keys()], ['a']);
  t.strictSame(queue.running(), ['a']);
  await end('a');
  t.strictSame(queue.counts(), { waiting: 1, running: 0 });
  first();
  first();
  await nextTick();
  t.strictSame([...running.keys()], [], 'one holds it still');
  second();
  await nextTick();
  t.strictSame([...running.keys()], ['b']);
});
