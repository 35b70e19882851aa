import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { PluginError, type Target } from '../../core/contract/index.js';
import { Bandwidth, type Policy, retry, withPolicy } from '../../core/policy/index.js';
import local from '../../plugins/targets/local/index.js';
import { markShare } from '../../plugins/targets/local/marker.js';
import { targetConformance } from '../conformance/index.js';
import { entries, never, pattern, read, refused, store, supply } from '../conformance/target/support.js';
import { faultyTarget } from '../faults/faulty-target.js';

async function newRoot(t: Pick<Test, 'teardown'>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'with-policy-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await markShare(root);
  return root;
}

const openAt = (root: string): Promise<Target> =>
  local.open({ log: () => undefined, signal: never(), stateFolder: root, options: { share: 'test', root } });

const policy = (more: Partial<Policy> = {}): Policy => ({
  name: 'nas',
  bandwidth: new Bandwidth(),
  stallMs: 60_000,
  signal: never(),
  log: () => undefined,
  waits: [1, 1, 1],
  ...more,
});

const suiteRoot = await newRoot(t);
const open = async () => withPolicy(await openAt(suiteRoot), policy());
targetConformance({ name: 'withPolicy local', open, openFull: 'elsewhere', large: 64 << 20 });

/** A target each of whose gets fails with a retryable error after so many bytes. */
function breakingTarget(target: Target, after: number): Target & { gets: number } {
  const breaking = {
    supports: target.supports,
    gets: 0,
    async get(path: string, o: { signal: AbortSignal; offset?: number; length?: number }) {
      breaking.gets++;
      const bytes = await read(await target.get(path, o));
      async function* some() {
        yield bytes.subarray(0, after);
        if (bytes.length > after) throw new PluginError('unavailable', 'the connection broke', { retryable: true });
      }
      return Readable.from(some(), { objectMode: false });
    },
    put: target.put.bind(target),
    stat: target.stat.bind(target),
    list: target.list.bind(target),
    remove: target.remove.bind(target),
    space: target.space.bind(target),
    [Symbol.asyncDispose]: async () => undefined,
  };
  return breaking;
}

t.test('a get continues where its connection broke', async (t) => {
  const target = await openAt(await newRoot(t));
  await store(target, 'a', pattern(100_003));
  const breaking = breakingTarget(target, 10_000);
  const whole = await read(await withPolicy(breaking, policy()).get('a', { signal: never() }));
  t.ok(whole.equals(pattern(100_003)), 'all bytes, none twice');
  t.equal(breaking.gets, 11);
  const part = await read(await withPolicy(breaking, policy()).get('a', { signal: never(), offset: 5, length: 25_000 }));
  t.ok(part.equals(pattern(25_000, 5)), 'and so does a part');
});

t.test('a get without progress fails after its last retry', async (t) => {
  const target = await openAt(await newRoot(t));
  await store(target, 'a', pattern(1000));
  const breaking = breakingTarget(target, 0);
  await refused(t, withPolicy(breaking, policy()).get('a', { signal: never() }).then(read), ['unavailable'], 'get');
  t.equal(breaking.gets, 4, 'after as many tries as there are waits');
});

t.test('only calls with a retryable error are retried', async (t) => {
  let calls = 0;
  const failing = (retryable: boolean) => async () => {
    if (++calls < 3) throw new PluginError('unavailable', 'away', { retryable });
    return calls;
  };
  t.equal(await retry(failing(true), { delays: [1, 1, 1], signal: never() }), 3);
  calls = 0;
  await refused(t, retry(failing(false), { delays: [1, 1, 1], signal: never() }), ['unavailable'], 'not retryable');
  t.equal(calls, 1);
  calls = -10;
  await refused(t, retry(failing(true), { delays: [1, 1, 1], signal: never() }), ['unavailable'], 'for good');
  t.equal(calls, -6, 'four tries');
  const abort = new AbortController();
  calls = -10;
  const long = retry(failing(true), { delays: [60_000], signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await refused(t, long, ['aborted'], 'stopped while it waits');
});

t.test('a put fails as stalled when the target reads nothing', async (t) => {
  const target = await openAt(await newRoot(t));
  const stalling = withPolicy(faultyTarget(target, { op: 'put', at: { byte: 100_000 }, kind: 'stall' }), policy({ stallMs: 300 }));
  const began = Date.now();
  const source = supply(50 << 20);
  await refused(t, stalling.put('a', source.stream, { signal: never() }), ['stalled'], 'put');
  t.ok(Date.now() - began < 3000, `after ${Date.now() - began} ms`);
  t.ok(source.stream.destroyed, 'the source is given back');
  t.same(await entries(target, ''), [], 'no trace');
});

t.test('a put fails as stalled when the target hangs at the end', async (t) => {
  const target = await openAt(await newRoot(t));
  const hanging: Target = Object.assign(breakingTarget(target, 1), {
    put: async (_path: string, source: Readable): Promise<never> => {
      for await (const _ of source);
      return new Promise(() => undefined);
    },
  });
  const began = Date.now();
  await refused(t, withPolicy(hanging, policy({ stallMs: 300 })).put('a', supply(1000).stream, { signal: never() }), ['stalled'], 'put');
  t.ok(Date.now() - began < 8000, `after ${Date.now() - began} ms, though it does not settle`);
});

t.test('a put through `aside` does not wait for the connection of a long put', async (t) => {
  const target = withPolicy(await openAt(await newRoot(t)), policy({ connections: 1 }));
  const long = new PassThrough();
  const stored = target.put('long', long, { signal: never() });
  long.write('a');
  await store(target.aside, 'small', 'few bytes');
  t.same(await target.stat('long'), undefined, 'which goes on');
  long.end('b');
  t.same(await stored, { bytes: 2 });
});

t.test('a slow source is no stall', async (t) => {
  const target = withPolicy(await openAt(await newRoot(t)), policy({ stallMs: 200 }));
  async function* slow() {
    yield Buffer.from('a');
    await sleep(800);
    yield Buffer.from('b');
  }
  t.same(await target.put('slow', Readable.from(slow(), { objectMode: false }), { signal: never() }), { bytes: 2 });
});

t.test('a slow reader is no stall, a silent target is one', async (t) => {
  const target = await openAt(await newRoot(t));
  await store(target, 'a', pattern(8 << 20));
  const stream = await withPolicy(target, policy({ stallMs: 200 })).get('a', { signal: never() });
  let bytes = 0;
  for await (const chunk of stream) {
    if (bytes === 0) await sleep(700);
    bytes += chunk.length;
  }
  t.equal(bytes, 8 << 20);
  const stalling = withPolicy(faultyTarget(target, { op: 'get', at: { byte: 1000 }, kind: 'stall' }), policy({ stallMs: 200, waits: [] }));
  await refused(t, stalling.get('a', { signal: never() }).then(read), ['stalled'], 'get');
});

t.test('a stat, a list, a remove and a space without an answer fail as stalled', async (t) => {
  const target = await openAt(await newRoot(t));
  await store(target, 'a', 'a');
  for (const op of ['stat', 'list', 'remove', 'space'] as const) {
    const faulty = faultyTarget(target, { op, at: { call: 1 }, kind: 'stall' });
    const stalling = withPolicy(faulty, policy({ stallMs: 100, waits: [] }));
    const work = {
      stat: () => stalling.stat('a'),
      list: () => entries(stalling, ''),
      remove: () => stalling.remove('a'),
      space: () => stalling.space(),
    };
    await refused(t, work[op](), ['stalled'], op);
    await faulty[Symbol.asyncDispose]();
  }
});

t.test('all streams share the bandwidth limit, and a change counts at once', async (t) => {
  const bandwidth = new Bandwidth(4 << 20);
  const target = withPolicy(await openAt(await newRoot(t)), policy({ bandwidth }));
  const timed = async (work: () => Promise<unknown>) => {
    const began = performance.now();
    await work();
    return (performance.now() - began) / 1000;
  };
  const put = (name: string, bytes: number) => target.put(name, supply(bytes).stream, { signal: never() });
  const both = await timed(() => Promise.all([put('a', 4 << 20), put('b', 4 << 20)]));
  t.ok(both > 1.5 && both < 3, `8 MiB at 4 MiB/s took ${both.toFixed(2)} s`);
  const got = await timed(async () => read(await target.get('a', { signal: never() })));
  t.ok(got > 0.6 && got < 1.6, `4 MiB back took ${got.toFixed(2)} s`);
  const changed = await timed(async () => {
    const work = put('c', 64 << 20);
    await sleep(500);
    bandwidth.set(0);
    await work;
  });
  t.ok(changed < 3, `64 MiB whose limit was lifted after half a second took ${changed.toFixed(2)} s`);
  bandwidth.set(1000);
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 300);
  await refused(t, target.put('d', supply(1 << 20).stream, { signal: abort.signal }), ['aborted'], 'a put that waits for its turn');
});

t.test('no more transfers run at once than the target has connections', async (t) => {
  const inner = await openAt(await newRoot(t));
  let now = 0;
  let most = 0;
  const counted: Target = Object.assign(breakingTarget(inner, 1 << 30), {
    put: async (path: string, source: Readable, o: { signal: AbortSignal }) => {
      most = Math.max(most, ++now);
      await sleep(50);
      return inner.put(path, source, o).finally(() => now--);
    },
  });
  const target = withPolicy(counted, policy({ connections: 2 }));
  t.equal(target.supports.connections, 2);
  await Promise.all([1, 2, 3, 4, 5].map((i) => store(target, `${i}`, 'x')));
  t.equal(most, 2);
  const first = await target.get('1', { signal: never() });
  const second = await target.get('2', { signal: never() });
  const abort = new AbortController();
  const waiting = target.get('3', { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await refused(t, waiting, ['aborted'], 'one that waits can be stopped');
  first.destroy();
  second.destroy();
  t.equal(String(await read(await target.get('4', { signal: never() }))), 'x', 'and what is closed makes room');
});
