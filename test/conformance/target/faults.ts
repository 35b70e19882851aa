import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Target } from '../../../core/contract/index.js';
import { type Bench, type Check, entries, never, pattern, read, refused, store, supply } from './support.js';

/** Time limit after an abort, by the contract. */
const settles = 5_000;

/** Checks of a source or a caller that gives up. */
export const faults: readonly Check[] = [
  { title: 'an abort of a put leaves nothing, at any byte', run: abortPut },
  { title: 'a put and a get with an aborted signal are refused', run: abortBefore },
  { title: 'an abort of a replace keeps the old file', run: abortReplace },
  { title: 'a source that fails leaves nothing', run: sourceFails },
  { title: 'a source that is destroyed leaves nothing', run: sourceDestroyed },
  { title: 'an abort of a put with a stalled source settles', run: stalled },
  { title: 'an abort of a put with an endless source settles', run: endless },
  { title: 'an abort of a get ends its stream as aborted', run: abortGet },
];

/** Asserts that the check's folder holds no file and no part of one. */
async function noTrace({ t, target, open, folder }: Bench, kept: readonly string[] = []): Promise<void> {
  t.same(
    (await entries(target, folder)).map(({ name }) => name),
    kept,
    'no trace',
  );
  await using other = await open();
  t.same(
    (await entries(other, folder)).map(({ name }) => name),
    kept,
    'no trace for another connection',
  );
}

async function abortPut(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  for (const at of [1, 65_536, 1 << 20, (8 << 20) - 1, 8 << 20]) {
    const abort = new AbortController();
    // the source never ends, so only the abort can end the put
    const source = supply(at, { end: 'stall', at: (given) => given >= at && setImmediate(() => abort.abort()) });
    const started = Date.now();
    await refused(t, target.put(`${folder}/abort`, source.stream, { signal: abort.signal }), ['aborted'], `at ${at}`);
    t.ok(Date.now() - started < settles + 5_000, 'in time');
    t.ok(source.stream.destroyed, 'the source is given back');
    await noTrace(bench);
  }
}

async function abortBefore(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const source = supply(100, { end: 'stall' });
  await refused(t, target.put(`${folder}/x/y`, source.stream, { signal: AbortSignal.abort() }), ['aborted'], 'put');
  await store(target, `${folder}/z`, 'z');
  await refused(t, target.get(`${folder}/z`, { signal: AbortSignal.abort() }).then(read), ['aborted'], 'get');
  await noTrace(bench, ['z']);
}

async function abortReplace(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  await store(target, `${folder}/f`, 'old');
  const abort = new AbortController();
  const source = supply(1 << 20, { end: 'stall', at: () => setImmediate(() => abort.abort()) });
  await refused(t, target.put(`${folder}/f`, source.stream, { signal: abort.signal, replace: true }), ['aborted'], 'put');
  t.equal(String(await read(await target.get(`${folder}/f`, { signal: never() }))), 'old');
  await noTrace(bench, ['f']);
}

async function sourceFails(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  for (const at of [0, 1, 65_536, 3 << 20]) {
    await refused(t, target.put(`${folder}/a/fail`, supply(at, { end: 'fail' }).stream, { signal: never() }), [], `after ${at} bytes`);
    await noTrace({ ...bench, folder: `${folder}/a` });
  }
  await store(target, `${folder}/fine`, 'the target goes on working');
}

/** A target that checks only for the end would take a destroyed source for a complete one. */
async function sourceDestroyed(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const source = supply(1 << 20, { end: 'stall' });
  const work = target.put(`${folder}/gone`, source.stream, { signal: never() });
  await sleep(100);
  source.stream.destroy();
  await refused(t, work, [], 'destroyed while read');
  const broken = supply(10, { end: 'stall' }).stream;
  broken.destroy();
  await refused(t, target.put(`${folder}/gone`, broken, { signal: never() }), [], 'destroyed before');
  await noTrace(bench);
}

async function stalled(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const source = supply(100_000, { end: 'stall' });
  // a source that cannot be destroyed must not keep the put waiting
  source.stream._destroy = () => undefined;
  const abort = new AbortController();
  const work = target.put(`${folder}/s`, source.stream, { signal: abort.signal });
  work.catch(() => undefined);
  await sleep(300);
  const started = Date.now();
  abort.abort();
  await refused(t, work, ['aborted'], 'put');
  t.ok(Date.now() - started < settles, `settled after ${Date.now() - started} ms`);
  await noTrace(bench);
}

async function endless(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const abort = new AbortController();
  const work = target.put(`${folder}/e`, supply(Number.MAX_SAFE_INTEGER).stream, { signal: abort.signal });
  work.catch(() => undefined);
  await sleep(300);
  const started = Date.now();
  abort.abort();
  await refused(t, work, ['aborted'], 'put');
  t.ok(Date.now() - started < settles, `settled after ${Date.now() - started} ms`);
  await noTrace(bench);
}

async function abortGet({ t, target, folder }: Bench): Promise<void> {
  await store(target, `${folder}/g`, pattern(8 << 20));
  const abort = new AbortController();
  const stream = await target.get(`${folder}/g`, { signal: abort.signal });
  await new Promise<void>((resolve) => stream.once('readable', resolve));
  abort.abort();
  await refused(t, read(stream), ['aborted'], 'get');
  const unread = new AbortController();
  await target.get(`${folder}/g`, { signal: unread.signal });
  unread.abort(); // a stream that nobody reads must not end the process
  await sleep(50);
}

/** For a target that has no room for 64 MiB. */
export async function noSpace({ t, target }: { readonly t: Test; readonly target: Target }): Promise<void> {
  await store(target, 'full/small', 'small');
  await refused(t, target.put('full/big', supply(64 << 20).stream, { signal: never() }), ['no_space'], 'put');
  t.same(
    (await entries(target, 'full')).map(({ name }) => name),
    ['small'],
    'no trace',
  );
  await store(target, 'full/after', 'there is room again');
  await target.remove('full');
}
