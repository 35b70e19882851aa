import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { PluginError } from '../../../core/contract/index.js';
import { type Fault, faultyTarget } from '../../faults/faulty-target.js';
import { pointsOf } from '../../support/depth.js';
import { countedTarget, keptRuns, makeFaultBench } from './bench.js';

const { stride } = pointsOf('target-faults');
const bench = await makeFaultBench(t);
let round = 0;

/** First call of the nth sweep. Sweeps that begin at different calls reach every call, although each skips some. */
let sweeps = 0;
const firstCall = (): number => 1 + (sweeps++ % stride);
/** Every `stride`th item of a list; each sweep begins at another item. */
const someOf = <T>(list: readonly T[]): T[] => list.filter((_, n) => n % stride === sweeps % stride);

/** Content of the volume's changing file in each kept run. */
const contents = new Map<string, string>();

/** Changes the file, and runs a backup without a fault. */
async function healthyRun(t: Test, what: string): Promise<void> {
  const content = `round ${++round}`;
  await writeFile(join(bench.data, 'changing'), content);
  const { run } = await bench.backUp(bench.target);
  contents.set(run, content);
  t.equal((await bench.runs())[0]?.run, run, `${what}: the next run, on a healthy target, is there`);
  t.same([await bench.damage(), await bench.leftovers()], [[], []], `${what}: it is whole, and what was left is collected`);
}

interface Outcome {
  readonly run?: string;
  readonly error?: unknown;
  /** Number of calls of the failing operation. */
  readonly calls: number;
  readonly settledIn: number; // ms since the abort
}

/** Runs a backup on a target with the fault. When the run reaches a stall, it is stopped. */
async function faultyRun(fault: Fault, newBase: boolean): Promise<Outcome> {
  const { target, calls } = countedTarget(faultyTarget(bench.target, fault));
  const abort = new AbortController();
  let aborted = 0;
  const reached = () => ('call' in fault.at ? calls[fault.op] >= fault.at.call : calls[fault.op] > 0);
  const timer = setInterval(() => {
    if (fault.kind !== 'stall' || !reached() || aborted > 0) return;
    aborted = performance.now() + 150; // long enough to reach the byte of a stall
    setTimeout(() => abort.abort(), 150);
  }, 10);
  const settledIn = () => (aborted === 0 ? 0 : performance.now() - aborted);
  try {
    const { run } = await bench.backUp(target, { newBase, signal: abort.signal });
    return { run, calls: calls[fault.op], settledIn: settledIn() };
  } catch (error) {
    return { error, calls: calls[fault.op], settledIn: settledIn() };
  } finally {
    clearInterval(timer);
  }
}

interface Wish {
  readonly fault: Fault;
  readonly newBase: boolean;
  /** Codes that a failing run may have. */
  readonly codes: readonly string[];
}

/** Runs once with the fault and once without. @returns whether the run reached the fault */
async function survives(t: Test, { fault, newBase, codes }: Wish): Promise<boolean> {
  const what = `${fault.op} ${fault.kind} at ${JSON.stringify(fault.at)}${newBase ? ', new base' : ''}`;
  const before = (await bench.runs()).map(({ run }) => run);
  const { run, error, calls, settledIn } = await faultyRun(fault, newBase);
  const after = (await bench.runs()).map(({ run }) => run);
  if (run !== undefined) {
    contents.set(run, `round ${round}`);
    const gone = [run, ...before].slice(0, keptRuns).filter((one) => !after.includes(one));
    t.notOk(before.includes(run), `${what}: its name is new`);
    t.same(
      [after.includes(run), gone],
      [true, []],
      `${what}: it says that it succeeded, the run is there, and none is gone that retention keeps`,
    );
  } else {
    t.ok(error instanceof PluginError && codes.includes(error.code), `${what}: it fails with ${error}`);
    t.same(after, before, `${what}: no run is listed that was not before, and none is gone`);
  }
  t.ok(settledIn < 5000, `${what}: settled ${Math.round(settledIn)} ms after a stop`);
  t.same(await bench.damage(), [], `${what}: every run that is listed is whole`);
  t.equal(await bench.state(), 'RUNNING', `${what}: the container runs`);
  await healthyRun(t, what);
  return 'call' in fault.at ? calls >= fault.at.call : run === undefined;
}

t.test('a first run succeeds', (t) => healthyRun(t, 'at the start'));

t.test('a run that sees an empty list does not overwrite an existing base', (t) =>
  survives(t, { fault: { op: 'list', at: { call: 1 }, kind: 'short' }, newBase: false, codes: ['exists'] }).then(() => undefined),
);

t.test('a run after the clock was set back counts as the newest', async (t) => {
  const { now } = Date;
  Date.now = () => now() - 400 * 86_400_000;
  try {
    await healthyRun(t, 'a year ago');
  } finally {
    Date.now = now;
  }
  await healthyRun(t, 'today');
});

const codesOf = { error: ['io'], no_space: ['no_space'], short: ['damaged'], stall: ['aborted'] } as const;

for (const kind of ['error', 'no_space', 'short', 'stall'] as const) {
  for (const newBase of kind === 'no_space' ? [true] : [true, false]) {
    t.test(`a put with ${kind} at each call harms no run ${newBase ? 'with a new base' : 'on a base'}`, async (t) => {
      let call = firstCall();
      while (await survives(t, { fault: { op: 'put', at: { call }, kind }, newBase, codes: codesOf[kind] })) call += stride;
      t.ok(call > 6, `each ${stride}th call failed in turn, up to ${call - stride}`);
    });
  }
  t.test(`a put with ${kind} at a byte harms no run`, async (t) => {
    for (const byte of someOf([1, 511, 4096, 20_000, 100_000]))
      await survives(t, { fault: { op: 'put', at: { byte }, kind }, newBase: true, codes: codesOf[kind] });
  });
}

const others = [
  { op: 'get', kind: 'error', codes: ['io'] },
  { op: 'get', kind: 'short', codes: ['damaged'] },
  { op: 'get', kind: 'stall', codes: ['aborted'] },
  { op: 'stat', kind: 'error', codes: ['io'] },
  { op: 'stat', kind: 'short', codes: ['damaged', 'exists', 'record_in_use'] }, // record_in_use: the run's lock seems to be gone
  { op: 'list', kind: 'error', codes: ['io'] },
  { op: 'list', kind: 'short', codes: ['damaged', 'exists', 'conflict'] },
  { op: 'remove', kind: 'error', codes: ['io'] },
  { op: 'remove', kind: 'short', codes: [] },
] as const;

for (const { op, kind, codes } of others) {
  t.test(`a ${op} with ${kind} at each call harms no run`, async (t) => {
    let call = 1;
    while (await survives(t, { fault: { op, at: { call }, kind }, newBase: false, codes })) call += stride;
    t.ok(call > 1, `each ${stride}th call failed in turn, up to ${call - stride}`);
  });
}

/** What must not change when a restore fails. */
async function containerNow(): Promise<object> {
  const volumes = join(bench.data, '..');
  return {
    state: await bench.state(),
    content: await readFile(join(bench.data, 'changing'), 'utf8'),
    folders: [await readdir(bench.lxcPath), (await readdir(join(volumes, '..'))).sort(), await readdir(volumes)],
  };
}

/** Restores from a target with the fault. @returns whether the restore failed */
async function restoreFails(t: Test, fault: Fault, run: string): Promise<boolean> {
  const what = `${fault.op} ${fault.kind} at ${JSON.stringify(fault.at)}`;
  await writeFile(join(bench.data, 'changing'), 'as it is now');
  const before = await containerNow();
  const { target, calls } = countedTarget(faultyTarget(bench.target, fault));
  const abort = new AbortController();
  const timer = setInterval(() => {
    const reached = 'call' in fault.at ? calls.get >= fault.at.call : calls.get > 0;
    if (fault.kind === 'stall' && reached) setTimeout(() => abort.abort(), 100);
  }, 10);
  const error: unknown = await bench.restore(target, { run, signal: abort.signal }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  clearInterval(timer);
  if (error === undefined) {
    t.match(await containerNow(), { ...before, content: contents.get(run) }, `${what}: it says that it succeeded, and it did`);
    return false;
  }
  t.ok(error instanceof PluginError && error.code === codesOf[fault.kind][0], `${what}: it fails with ${error}`);
  t.same(await containerNow(), before, `${what}: the container is as it was, and nothing lies beside it`);
  return true;
}

t.test('a restore from a failing target leaves the container as it was', async (t) => {
  const run = (await bench.runs()).at(-1)?.run ?? '';
  const manifests = (await bench.runs()).length;
  for (const kind of ['error', 'short', 'stall'] as const) {
    let failed = 0;
    const calls = Array.from({ length: manifests + 6 }, (_, n) => n + 1);
    for (const call of calls.filter((call) => call % stride === 1 % stride))
      failed += (await restoreFails(t, { op: 'get', at: { call }, kind }, run)) ? 1 : 0;
    t.ok(failed >= 4 / stride, `${failed} restores failed`);
    sweeps++;
    for (const byte of someOf([4000, 8000, 200_000, 8000])) await restoreFails(t, { op: 'get', at: { byte }, kind }, run);
  }
  for (let call = 1; call <= manifests + 6; call += stride) await restoreFails(t, { op: 'stat', at: { call }, kind: 'error' }, run);
});

t.test('every kept run is restored after all that', async (t) => {
  const runs = await bench.runs();
  t.equal(runs.length, keptRuns);
  for (const { run } of runs) {
    await bench.restore(bench.target, { run });
    t.equal(await readFile(join(bench.data, 'changing'), 'utf8'), contents.get(run), run);
  }
});
