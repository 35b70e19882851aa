/** A record is read by its index, which is believed no further than what lies there bears it out. */
import { createHmac } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { freeRunName, isRunName, manifestText, type NewManifest, OpenRecord, removeRun, type Sealer } from '../../core/archive/index.js';
import type { Target } from '../../core/contract/index.js';
import { RecordKeeper } from '../../core/jobs/run/record/record-keeper.js';
import { archive, manifest, never, put, putRun, recordRuns, someTarget } from '../system/hostile/archive-samples.js';

const record = 'container-backup@web';
const sealerOf = (appliance: string): Sealer => ({ appliance, mac: (text) => createHmac('sha256', appliance).update(text).digest('hex') });
const own = sealerOf('own');
const runNumber = (n: number): string =>
  new Date(Date.UTC(2026, 0, 1) + n * 3_600_000).toISOString().slice(0, 19).replace('T', '_').replaceAll(':', '-');

/** A record on a real share, and the manifests that were read of it. */
interface Bed {
  readonly target: Target;
  readonly record: string;
  /** The record's folder on this machine. */
  readonly folder: string;
  readonly said: string[];
  read: string[];
}

function counted(target: Target, read: (path: string) => void): Target {
  return {
    supports: target.supports,
    put: (path, source, o) => target.put(path, source, o),
    get: (path, o) => {
      if (path.endsWith('manifest.json')) read(path);
      return target.get(path, o);
    },
    stat: (path) => target.stat(path),
    list: (path, o) => target.list(path, o),
    remove: (path) => target.remove(path),
    space: () => target.space(),
    [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
  };
}

/** Each has its own archive and one of the run before. */
const onBefore = (run: string, before?: string): NewManifest =>
  manifest(run, {
    archives: [
      archive(before === undefined ? 'image.tar.zst' : `${before}/rootfs.tar.zst`),
      archive(`${run}/rootfs.tar.zst`, { level: 1 }),
    ],
    left_out: [{ path: `/srv/${run}`, reason: 'it is excluded' }],
  });

async function makeBed(t: Test, runs: number, name = record): Promise<Bed> {
  const { target, root } = await someTarget(t);
  const bed: Bed = { target: counted(target, (path) => bed.read.push(path)), record: name, folder: join(root, name), said: [], read: [] };
  for (let n = 0; n < runs; n++) await putRun(target, name, onBefore(runNumber(n), n === 0 ? undefined : runNumber(n - 1)));
  if (runs > 0) await age(bed);
  return bed;
}

const namesIn = async ({ folder }: Bed): Promise<string[]> => (await readdir(folder)).filter(isRunName).sort();

const hourAgo = Math.floor(Date.now() / 1000) - 3600;

/** As if all that is there was written an hour ago: again the same time, however long a test takes. */
async function age(bed: Bed, then = hourAgo): Promise<void> {
  for (const run of await namesIn(bed)) await utimes(join(bed.folder, run), then, then);
}

/** Changes something of a run and leaves its folder's time as it was. */
async function unseen({ folder }: Bed, run: string, change: (manifestFile: string) => Promise<unknown>): Promise<void> {
  const { mtime } = await stat(join(folder, run));
  await change(join(folder, run, 'manifest.json'));
  await utimes(join(folder, run), mtime, mtime);
}

const bedOf = (bed: Bed, retention = 0, sealer = own) => ({
  ...{ target: bed.target, record: bed.record, sealer, verifyMs: 1e12, signal: never, id: 7, spec: { job_name: 'web', retention } },
  log: (_level: string, text: string) => void bed.said.push(text),
});

/** What a run does with its record, less its own archives. @returns its name, and the manifests that were read before it stored any */
async function nextRun(bed: Bed, retention = 0, sealer = own): Promise<{ run: string; readBefore: number }> {
  bed.read = [];
  const keeper = await RecordKeeper.open(bedOf(bed, retention, sealer));
  await keeper.prepare();
  const readBefore = bed.read.length;
  const run = await freeRunName(bed.target, bed.record, keeper.latest);
  const made = onBefore(run, keeper.newest?.run);
  await putRun(bed.target, bed.record, made);
  await keeper.afterwards(made, false);
  return { run, readBefore };
}

/** The runs as a list has them: by the index, as far as it is believed. */
async function listed(bed: Bed, sealer = own) {
  bed.read = [];
  const { complete, damaged } = await (await OpenRecord.open(bed.target, bed.record, { signal: never, sealer })).runs();
  return { complete: complete.map(({ seen: _seen, ...one }) => one), damaged, read: bed.read.length };
}

/** A list is what the manifests say. @returns how many were read for it */
async function isTrue(t: Test, bed: Bed, what: string): Promise<number> {
  const { read, ...told } = await listed(bed);
  const { complete, damaged } = await recordRuns(bed.target, bed.record, never);
  t.same(told, { complete: complete.map(({ seen: _seen, ...one }) => one), damaged }, what);
  return read;
}

/** Every file that a manifest of the record names is there. */
async function nothingIsLost(t: Test, bed: Bed, what: string): Promise<void> {
  const { complete } = await recordRuns(bed.target, bed.record, never);
  const missing: string[] = [];
  for (const { run } of complete) {
    const { archives }: NewManifest = JSON.parse(await readFile(join(bed.folder, run, 'manifest.json'), 'utf8'));
    for (const { path } of archives) if ((await bed.target.stat(`${bed.record}/${path}`)) === undefined) missing.push(`${run}: ${path}`);
  }
  t.same(missing, [], what);
}

/** A record of so many runs whose index tells all of them. */
async function indexedBed(t: Test, runs: number): Promise<Bed> {
  const bed = await makeBed(t, runs);
  await nextRun(bed);
  await age(bed);
  await nextRun(bed);
  await age(bed);
  return bed;
}

t.test('with an index, only the newest manifest is read', async (t) => {
  const bed = await makeBed(t, 100);
  t.equal((await nextRun(bed)).readBefore, 1, 'without an index the run begins after one manifest, too');
  t.equal(bed.read.length, 100, 'and reads the others when it exists');
  await age(bed);
  t.equal((await nextRun(bed)).readBefore, 1);
  t.equal(bed.read.length, 1, 'nor does it read more afterwards');
  t.equal(await isTrue(t, bed, 'a list'), 1);
  await age(bed, hourAgo + 1);
  t.equal(await isTrue(t, bed, 'a list when all folders have another time: their manifests are looked at'), 1);
  t.match(JSON.parse(await readFile(join(bed.folder, 'backup-metadata'), 'utf8')), { format: 2, runs: { length: 102 } });
});

t.test('an index of another appliance or record is ignored, and the next run writes one', async (t) => {
  const bed = await indexedBed(t, 3);
  const path = join(bed.folder, 'backup-metadata');
  const good = await readFile(path, 'utf8');
  const other = await makeBed(t, 3, 'container-backup@other');
  await nextRun(other);
  const foreign = await makeBed(t, 3);
  await nextRun(foreign, 0, sealerOf('another'));
  const ending = `,"mac":"${'0'.repeat(64)}"}\n`;
  const deep = '['.repeat(4 << 20);
  const cases: Readonly<Record<string, () => Promise<unknown>>> = {
    missing: () => rm(path),
    empty: () => writeFile(path, ''),
    half: () => writeFile(path, good.slice(0, good.length / 2)),
    'a byte less': () => writeFile(path, good.slice(0, -1)),
    'a digit altered': () => writeFile(path, good.replace('"bytes":20480', '"bytes":20481')),
    'of the version before': () => writeFile(path, JSON.stringify({ format: 1, job: {}, container: {}, runs: [] })),
    'of another record': () => cp(join(other.folder, 'backup-metadata'), path),
    'of another appliance': () => cp(join(foreign.folder, 'backup-metadata'), path),
    nonsense: () => writeFile(path, Buffer.alloc(8 << 20, 'x')),
    'larger than any': () => writeFile(path, Buffer.alloc(16 << 20, 'x')),
    'deeply nested': () => writeFile(path, deep),
    'deeply nested, in its frame': () => writeFile(path, deep + ending),
  };
  for (const [name, make] of Object.entries(cases)) {
    await make();
    const runs = (await namesIn(bed)).length;
    t.equal(await isTrue(t, bed, `${name}: a list`), runs, `${name}: all manifests are read`);
    await nextRun(bed);
    t.equal(await isTrue(t, bed, `${name}: a list by the new index`), 1, `${name}: made anew`);
    await nothingIsLost(t, bed, name);
  }
  await rm(path);
  await mkdir(join(path, 'of somebody'), { recursive: true });
  await nextRun(bed);
  await isTrue(t, bed, 'a folder in its place');
  t.match(bed.said.at(-1), /index of .* could not be written/, 'is told, and stays');
});

t.test('an outdated index shows no missing run and hides no existing one', async (t) => {
  const bed = await indexedBed(t, 8);
  const path = join(bed.folder, 'backup-metadata');
  const earlier = await readFile(path);
  for (let n = 0; n < 3; n++) await nextRun(bed, 5);
  await removeRun(bed.target, record, (await namesIn(bed)).at(-3) ?? '');
  await writeFile(path, earlier);
  await isTrue(t, bed, 'a list');
  await nextRun(bed, 5);
  await isTrue(t, bed, 'a list after the next run');
  await nothingIsLost(t, bed, 'retention and garbage');
});

t.test('a manifest removed or replaced since the index is noticed by its folder, the newest also when it is damaged', async (t) => {
  const bed = await indexedBed(t, 12);
  await rm(join(bed.folder, runNumber(3), 'manifest.json'));
  t.equal((await listed(bed)).complete.length, 13, 'removed');
  await writeFile(join(bed.folder, runNumber(4), 'new'), manifestText(manifest(runNumber(4), { pause_ms: 123_456 })));
  await rename(join(bed.folder, runNumber(4), 'new'), join(bed.folder, runNumber(4), 'manifest.json'));
  t.match(
    (await listed(bed)).complete.find(({ run }) => run === runNumber(4)),
    { pause_ms: 123_456 },
    'replaced',
  );
  const newest = (await namesIn(bed)).at(-1) ?? '';
  await unseen(bed, runNumber(5), (file) => writeFile(file, 'damaged'));
  t.same((await listed(bed)).damaged, [], 'an older one that is overwritten in its place is not looked for');
  await unseen(bed, newest, (file) => writeFile(file, 'damaged'));
  t.match((await listed(bed)).damaged, [{ run: newest }, { run: runNumber(5) }], 'until the newest says other than the index');
  const before = await readdir(bed.folder, { recursive: true });
  await nextRun(bed, 2);
  const after = await readdir(bed.folder, { recursive: true });
  t.same(
    before.filter((path) => /tar/.test(path) && !after.includes(path)),
    [],
    'and nothing is collected while it is damaged',
  );
});

t.test('a run whose manifest differs from the index decides nothing, and the index is dropped', async (t) => {
  const bed = await indexedBed(t, 5);
  await unseen(bed, runNumber(2), async (file) =>
    writeFile(file, (await readFile(file, 'utf8')).replace('"pause_ms":12', '"pause_ms":13')),
  );
  const opened = await OpenRecord.open(bed.target, record, { signal: never, sealer: own });
  t.equal((await opened.runs()).damaged.length, 0, 'of the same size it is not noticed');
  t.equal(await opened.manifestOf(runNumber(2)), undefined, 'until it is used');
  t.match((await opened.runs()).damaged, [{ run: runNumber(2) }]);
});

t.test('retention counts no run without a manifest, whatever its folder looks like', async (t) => {
  const bed = await indexedBed(t, 14);
  const names = await namesIn(bed);
  for (const run of names.slice(-9, -4)) await unseen(bed, run, (file) => rm(file));
  await nextRun(bed, 6);
  const { complete } = await recordRuns(bed.target, record, never);
  t.same(
    complete.map(({ run }) => run).slice(1),
    [...names.slice(-4), ...names.slice(-10, -9)].sort().reverse(),
    'six that are there stay',
  );
  await isTrue(t, bed, 'a list');
  await nothingIsLost(t, bed, 'six that are whole');
});

t.test('leftovers of a broken run are collected before the next run begins', async (t) => {
  const bed = await indexedBed(t, 100);
  const left = ['2026-11-28_00-00-00/rootfs.tar.zst', 'image-2026-11-28_00-00-00.tar.zst'];
  for (const path of left) await put(bed.target, `${record}/${path}`, 'left');
  await nextRun(bed);
  const there = async (path: string) => (await bed.target.stat(`${record}/${path}`)) !== undefined;
  t.same(await Promise.all(left.map(there)), [false, false]);
  await put(bed.target, `${record}/${runNumber(1)}/rootfs.1.tar.zst`, 'left');
  await (await RecordKeeper.open(bedOf(bed))).prepare();
  t.notOk(await there(`${runNumber(1)}/rootfs.1.tar.zst`), 'nor does anything stay in the folder of a whole one');
  await nothingIsLost(t, bed, 'and nothing else');
});

t.test('a power cut during retention leaves whole runs, and the rest is collected', async (t) => {
  const bed = await indexedBed(t, 6);
  const path = join(bed.folder, 'backup-metadata');
  await nextRun(bed, 3);
  const [oldest = ''] = await namesIn(bed);
  const index: { runs: { run: string }[] } = JSON.parse(await readFile(path, 'utf8'));
  t.notOk(index.runs.some(({ run }) => run < oldest));
  await putRun(bed.target, record, manifest(runNumber(1), { archives: [archive(`${runNumber(1)}/rootfs.tar.zst`)] }));
  await isTrue(t, bed, 'one that was given up and is still there');
  await removeRun(bed.target, record, runNumber(1));
  await (await RecordKeeper.open(bedOf(bed, 3))).prepare();
  t.notOk((await namesIn(bed)).includes(runNumber(1)), 'its leftovers go before the next run');
});

t.test('an index too small for everything that runs left out counts it, and all warnings are shown', async (t) => {
  const bed = await makeBed(t, 0);
  const left_out = (run: string) => Array.from({ length: 20 }, (_, n) => ({ path: `/srv/${run}/${n}${'x'.repeat(300)}`, reason: 'x' }));
  const warnings = (run: string) => [{ code: 'some', message: `${run} ${'y'.repeat(1000)}`, fix: 'none' }];
  const count = 500;
  for (let n = 0; n < count; n++) {
    const run = runNumber(n);
    const one = manifest(run, { left_out: left_out(run), warnings: warnings(run) });
    await put(bed.target, `${record}/${run}/manifest.json`, manifestText(one));
  }
  await age(bed);
  for (let n = 0; n < 2; n++) await nextRun(bed);
  t.ok((await stat(join(bed.folder, 'backup-metadata'))).size < 8 << 20);
  const { complete, read } = await listed(bed);
  t.equal(read, 1, 'all are in the index');
  const old = complete.filter(({ run }) => run <= runNumber(count));
  const leftOut = old.map(({ said }) => said.left_out.length + (said.left_out_more ?? 0));
  t.same([new Set(leftOut), leftOut.length], [new Set([20]), count]);
  t.same([old[0]?.said.left_out, old.at(-1)?.said.left_out], [left_out(runNumber(count - 1)), []], 'of the newest it is there');
  t.same(
    old.filter(({ run, said }) => JSON.stringify(said.warnings) !== JSON.stringify(warnings(run))),
    [],
  );
});
