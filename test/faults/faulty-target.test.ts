import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Target } from '../../core/contract/index.js';
import local from '../../plugins/targets/local/index.js';
import { markShare } from '../../plugins/targets/local/marker.js';
import { entries, never, pattern, read, refused, store, supply } from '../conformance/target/support.js';
import { faultyTarget } from './faulty-target.js';

async function openLocal(t: Test): Promise<Target> {
  const root = await mkdtemp(join(tmpdir(), 'faulty-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await markShare(root);
  return local.open({ log: () => undefined, signal: never(), stateFolder: root, options: { share: 'test', root } });
}

t.test('a put fails at a byte and leaves no trace', async (t) => {
  const target = await openLocal(t);
  for (const kind of ['error', 'no_space'] as const) {
    const faulty = faultyTarget(target, { op: 'put', at: { byte: 100_000 }, kind });
    const source = supply(1 << 20);
    await refused(t, faulty.put('a', source.stream, { signal: never() }), [kind === 'error' ? 'io' : 'no_space'], kind);
    t.ok(source.stream.destroyed, 'the source is given back');
    t.same(await entries(target, ''), []);
    t.same(await faulty.put('b', supply(1000).stream, { signal: never() }), { bytes: 1000 }, 'a shorter one passes');
    await target.remove('b');
  }
});

t.test('a put stalls until it is aborted', async (t) => {
  const target = await openLocal(t);
  const abort = new AbortController();
  const work = faultyTarget(target, { op: 'put', at: { byte: 10 }, kind: 'stall' }).put('a', supply(100).stream, { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await refused(t, work, ['aborted'], 'stalled put');
  t.same(await entries(target, ''), []);
});

t.test('a put and a get are cut short without an error', async (t) => {
  const target = await openLocal(t);
  const put = faultyTarget(target, { op: 'put', at: { byte: 70_000 }, kind: 'short' });
  t.same(await put.put('a', supply(200_000).stream, { signal: never() }), { bytes: 70_000 });
  const get = faultyTarget(target, { op: 'get', at: { byte: 300 }, kind: 'short' });
  t.ok((await read(await get.get('a', { signal: never() }))).equals(pattern(300)));
});

t.test('a get fails and stalls', async (t) => {
  const target = await openLocal(t);
  await store(target, 'a', pattern(1000));
  const failing = faultyTarget(target, { op: 'get', at: { byte: 500 }, kind: 'error' });
  await refused(t, failing.get('a', { signal: never() }).then(read), ['io'], 'get');
  const abort = new AbortController();
  const stalling = faultyTarget(target, { op: 'get', at: { call: 1 }, kind: 'stall' });
  setTimeout(() => abort.abort(), 50);
  await refused(t, stalling.get('a', { signal: abort.signal }).then(read), ['aborted'], 'stalled get');
  t.equal((await read(await stalling.get('a', { signal: never() }))).length, 1000, 'only the first call stalls');
});

t.test('the nth stat, list, space or remove fails, is cut short or stalls', async (t) => {
  const target = await openLocal(t);
  await store(target, 'a', 'a');
  const stat = faultyTarget(target, { op: 'stat', at: { call: 2 }, kind: 'error' });
  t.ok(await stat.stat('a'));
  await refused(t, stat.stat('a'), ['io'], 'second stat');
  t.ok(await stat.stat('a'));
  t.same(await entries(faultyTarget(target, { op: 'list', at: { call: 1 }, kind: 'short' }), ''), [], 'short list');
  t.equal(await faultyTarget(target, { op: 'space', at: { call: 1 }, kind: 'short' }).space(), undefined);
  await faultyTarget(target, { op: 'remove', at: { call: 1 }, kind: 'short' }).remove('a');
  t.ok(await target.stat('a'), 'short remove');
  const stalled = faultyTarget(target, { op: 'remove', at: { call: 1 }, kind: 'stall' });
  const work = stalled.remove('a');
  setTimeout(() => void stalled[Symbol.asyncDispose](), 50);
  await refused(t, work, ['aborted'], 'closing ends a stall');
});
