/** Tests each policy wrapper alone around the local target, and the order in which withPolicy composes them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Entry, type ListOptions, PluginError, type Stored, type Target } from '../../core/contract/index.js';
import { Bandwidth, withBandwidth, withConnections, withPolicy, withRetry, withStall } from '../../core/policy/index.js';
import { type GetOptions, WrappedTarget } from '../../core/policy/wrapped-target.js';
import local from '../../plugins/targets/local/index.js';
import { markShare } from '../../plugins/targets/local/marker.js';
import { entries, never, pattern, read, refused, store, supply } from '../conformance/target/support.js';
import { faultyTarget } from '../faults/faulty-target.js';

const log = (): void => undefined;

async function openLocal(t: Test): Promise<Target> {
  const root = await mkdtemp(join(tmpdir(), 'wrappers-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await markShare(root);
  return local.open({ log, signal: never(), stateFolder: root, options: { share: 'test', root } });
}

const away = (): PluginError => new PluginError('unavailable', 'the connection broke', { retryable: true });

/** A target whose calls fail so many times with a retryable error, and then work. A get fails after `after` bytes, a list after its first
 *  entry. */
class BreakingTarget extends WrappedTarget {
  calls = 0;
  constructor(
    inner: Target,
    private failures: number,
    private readonly after = 0,
  ) {
    super(inner);
  }
  #fails(): boolean {
    this.calls++;
    return this.failures-- > 0;
  }
  override async put(path: string, source: Readable, o: { signal: AbortSignal }): Promise<Stored> {
    if (!this.#fails()) return super.put(path, source, o);
    source.destroy();
    throw away();
  }
  override async get(path: string, o: GetOptions): Promise<Readable> {
    const stream = await super.get(path, o);
    if (!this.#fails()) return stream;
    const bytes = (await read(stream)).subarray(0, this.after);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield bytes;
      throw away();
    }
    return Readable.from(broken(), { objectMode: false });
  }
  override async stat(path: string): Promise<Entry | undefined> {
    if (this.#fails()) throw away();
    return super.stat(path);
  }
  override async *list(path: string, o?: ListOptions): AsyncGenerator<Entry> {
    const fails = this.#fails();
    for await (const entry of super.list(path, o)) {
      yield entry;
      if (fails) throw away();
    }
  }
}

const retrying = (target: Target, delays: readonly number[] = [1, 1]): Target =>
  withRetry(target, { name: 'nas', delays, signal: never(), log });

t.test('withRetry repeats calls and resumes a broken get or list, but never repeats a put', async (t) => {
  const inner = await openLocal(t);
  for (const name of ['a', 'b', 'c']) await store(inner, name, pattern(100_000));
  t.match(await retrying(new BreakingTarget(inner, 2)).stat('a'), { size: 100_000 });
  await refused(t, retrying(new BreakingTarget(inner, 3)).stat('a'), ['unavailable'], 'more often than there are waits');
  const listed = (await entries(retrying(new BreakingTarget(inner, 2)), '')).map(({ name }) => name);
  t.same(listed, ['a', 'b', 'c'], 'each once');
  const part = await retrying(new BreakingTarget(inner, 2, 7)).get('a', { signal: never(), offset: 10, length: 60_000 });
  t.ok((await read(part)).equals(pattern(60_000, 10)), 'each byte once');
  const whole = await retrying(new BreakingTarget(inner, 2, 100_000)).get('a', { signal: never() });
  t.ok((await read(whole)).equals(pattern(100_000)), 'also when it broke after the last byte');
  const putting = new BreakingTarget(inner, 1);
  await refused(t, store(retrying(putting), 'd', 'x'), ['unavailable'], 'put');
  t.equal(putting.calls, 1);
});

t.test('withBandwidth limits the sum of puts and gets, and nothing else', async (t) => {
  const inner = await openLocal(t);
  await store(inner, 'a', pattern(1 << 20));
  const target = withBandwidth(inner, new Bandwidth(2 << 20));
  const began = performance.now();
  const back = target.get('a', { signal: never() }).then(read);
  await Promise.all([target.put('b', supply(1 << 20).stream, { signal: never() }), back]);
  const seconds = (performance.now() - began) / 1000;
  t.ok(seconds > 0.6 && seconds < 2.5, `1 MiB each way at 2 MiB/s took ${seconds.toFixed(2)} s`);
  t.ok((await back).equals(pattern(1 << 20)), 'the bytes are the same');
  const none = withBandwidth(inner, new Bandwidth(1));
  t.equal((await entries(none, '')).length, 2, 'a list takes none of it');
  const abort = new AbortController();
  const source = supply(1 << 20);
  const put = none.put('c', source.stream, { signal: abort.signal });
  setImmediate(() => abort.abort());
  await refused(t, put, ['aborted'], 'a put that waits for its part');
  t.ok(source.stream.destroyed, 'its source is given back');
});

t.test('withConnections limits concurrent transfers, and a get holds its connection until its stream closes', async (t) => {
  const inner = await openLocal(t);
  await store(inner, 'a', 'a');
  const target = withConnections(inner, 1);
  t.equal(target.supports.connections, 1);
  t.ok(Object.isFrozen(target.supports));
  t.equal(withConnections(inner, 99).supports.connections, inner.supports.connections, 'never more than the target takes');
  const first = await target.get('a', { signal: never() });
  let stored = false;
  const put = store(target, 'b', 'b').then(() => {
    stored = true;
  });
  t.match(await target.stat('a'), { size: 1 }, 'a look waits for none');
  t.equal(stored, false, 'a put waits');
  first.destroy();
  await put;
  await refused(t, target.get('absent', { signal: never() }), ['not_found'], 'one that fails');
  t.equal(String(await read(await target.get('b', { signal: never() }))), 'b', 'gives its connection back');
});

t.test('withStall ends a call that makes no progress', async (t) => {
  const inner = await openLocal(t);
  await store(inner, 'a', pattern(1 << 20));
  const timed = (target: Target) => withStall(target, { name: 'nas', stallMs: 150, log });
  t.ok((await read(await timed(inner).get('a', { signal: never() }))).equals(pattern(1 << 20)), 'what moves is let through');
  const put = faultyTarget(inner, { op: 'put', at: { byte: 1000 }, kind: 'stall' });
  await refused(t, timed(put).put('b', supply(8 << 20).stream, { signal: never() }), ['stalled'], 'put');
  const get = faultyTarget(inner, { op: 'get', at: { byte: 1000 }, kind: 'stall' });
  await refused(t, timed(get).get('a', { signal: never() }).then(read), ['stalled'], 'get');
  const stat = faultyTarget(inner, { op: 'stat', at: { call: 1 }, kind: 'stall' });
  await refused(t, timed(stat).stat('a'), ['stalled'], 'stat');
  for (const one of [put, get, stat]) await one[Symbol.asyncDispose]();
});

t.test('a target that stores its last bytes slowly is no stall', async (t) => {
  const inner = await openLocal(t);
  const source = new PassThrough();
  const slow = new (class extends WrappedTarget {
    override async put(_path: string, from: Readable, o: { signal: AbortSignal }): Promise<Stored> {
      await new Promise<void>((resolve) => from.once('readable', resolve));
      for (let n = 0; n < 8; n++) {
        await sleep(50);
        if (o.signal.aborted) throw new PluginError('aborted', 'stopped');
        from.read(100);
      }
      source.end();
      for await (const _ of from);
      return { bytes: 800 };
    }
  })(inner);
  source.write(pattern(900));
  t.same(await withStall(slow, { name: 'nas', stallMs: 200, log }).put('a', source, { signal: never() }), { bytes: 800 });
});

t.test('in withPolicy a retried get keeps its connection, and the wait before the retry is no stall', async (t) => {
  const inner = await openLocal(t);
  await store(inner, 'a', pattern(1000));
  const breaking = new BreakingTarget(inner, 1, 10);
  const policy = { name: 'nas', bandwidth: new Bandwidth(), connections: 1, stallMs: 100, signal: never(), log, waits: [600] };
  const target = withPolicy(breaking, policy);
  const first = read(await target.get('a', { signal: never() }));
  let second = false;
  const put = store(target, 'b', 'b').then(() => {
    second = true;
  });
  await sleep(150); // longer than the stall limit, shorter than the wait before the next try, half of which is random
  t.equal(second, false, 'nobody has got its connection meanwhile');
  t.equal(breaking.calls, 1);
  await store(target.aside, 'small', 'aside', true);
  t.equal(breaking.calls, 2, 'but a put aside needs none');
  t.ok((await first).equals(pattern(1000)));
  await put;
});

t.test('in withPolicy a stalled call is retried, and an abort ends it at once in every wrapper', async (t) => {
  const inner = await openLocal(t);
  await store(inner, 'a', pattern(1000));
  const stalling = faultyTarget(inner, { op: 'get', at: { call: 1 }, kind: 'stall' });
  const policy = { name: 'nas', bandwidth: new Bandwidth(), stallMs: 100, signal: never(), log, waits: [1, 1] };
  t.ok((await read(await withPolicy(stalling, policy).get('a', { signal: never() }))).equals(pattern(1000)), 'the second try gives it');
  const abort = new AbortController();
  const hanging = faultyTarget(inner, { op: 'get', at: { byte: 10 }, kind: 'stall' });
  const stream = await withPolicy(hanging, { ...policy, stallMs: 60_000 }).get('a', { signal: abort.signal });
  const reading = read(stream);
  setTimeout(() => abort.abort(), 50);
  await refused(t, reading, ['aborted'], 'reading');
  t.ok(stream.destroyed);
  for (const one of [stalling, hanging]) await one[Symbol.asyncDispose]();
});
