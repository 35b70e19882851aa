import { createHash, createHmac } from 'node:crypto';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { collectGarbage, isRunName, manifestText, OpenRecord, removeRun, writeIndex } from '../../core/archive/index.js';
import type { Target } from '../../core/contract/index.js';
import { findRun } from '../../core/targets/find-run.js';
import { inFormat1, inFormat2 } from '../support/manifest-file.js';
import { archive, filesOf, manifest, never, put, putRun, recordRuns, snapshot, someTarget } from '../system/hostile/archive-samples.js';

const record = 'container-backup@web';
const [one, two, three] = ['2026-11-01_00-00-00', '2026-11-02_00-00-00', '2026-11-03_00-00-00'] as const;
const base = archive('image.tar.zst', { snapshot: snapshot('image.snar.zst') });
const volume = archive(`${one}/data.tar.zst`, { source: 'data', snapshot: snapshot(`${one}/data.snar.zst`) });

const sources = ['rootfs', 'data'].map((name) => ({ name, origin: 'new', kind: 'folder' }) as const);

/** A run that builds on the base of the record and on the volume's in the first run. */
const onBase = (run: string) =>
  manifest(run, {
    sources,
    archives: [base, archive(`${run}/rootfs.tar.zst`, { level: 1 }), volume, archive(`${run}/data.tar.zst`, { source: 'data', level: 1 })],
  });

/** Three runs that share bases. */
async function threeRuns(t: Test): Promise<Target> {
  const { target } = await someTarget(t);
  await putRun(target, record, manifest(one, { sources, archives: [base, volume] }));
  for (const run of [two, three]) await putRun(target, record, onBase(run));
  return target;
}

const collect = async (target: Target) => (await collectGarbage(target, record, await recordRuns(target, record, never))).gone;

t.test('runs with a whole manifest are listed, newest first', async (t) => {
  const target = await threeRuns(t);
  await put(target, `${record}/2026-11-04_00-00-00/rootfs.tar.zst`, 'no manifest yet');
  await put(target, `${record}/notes/manifest.json`, 'not a run');
  await put(target, `${record}/2026-11-05_00-00-00`, 'a file');
  const { complete, damaged } = await recordRuns(target, record, never);
  t.same([complete.map(({ run }) => run), damaged], [[three, two, one], []]);
  t.same(await recordRuns(target, 'container-backup@absent', never), { complete: [], damaged: [] });
});

t.test('runs of format 1 and 2 need the same bases', async (t) => {
  const target = await threeRuns(t);
  for (const run of [one, three])
    await put(target, `${record}/${run}/manifest.json`, inFormat1(JSON.stringify({ ...onBase(run), format: 1 })));
  const { complete, damaged } = await recordRuns(target, record, never);
  t.same([complete.map(({ run }) => run), damaged], [[three, two, one], []]);
  const before = await filesOf(target, record);
  t.same([await collect(target), await filesOf(target, record)], [[], before]);
  for (const run of [one, two]) await removeRun(target, record, run);
  await collect(target);
  const left = ['image.snar.zst', 'image.tar.zst', `${one}/data.snar.zst`, `${one}/data.tar.zst`];
  t.same(
    await filesOf(target, record),
    [...left, ...['data', 'rootfs'].map((name) => `${three}/${name}.tar.zst`), `${three}/manifest.json`].sort(),
  );
});

t.test('an index of format 1 is believed, and one of a later format is ignored', async (t) => {
  const target = await threeRuns(t);
  const sealer = { appliance: 'own', mac: (text: string) => createHmac('sha256', 'own').update(text).digest('hex') };
  const { complete } = await recordRuns(target, record, never);
  const runs = complete.map((run) => ({ ...run, pause_ms: 99 })); // so that it is seen who believes it
  await writeIndex(target, record, { job: { id: 7, name: 'web' }, container: onBase(one).container, runs }, { sealer, signal: never });
  const [body = ''] = (await text(await target.get(`${record}/backup-metadata`, { signal: never }))).split(',"mac":');
  t.match(body, /^\{"format":2,/);
  for (const format of [1, 2, 3]) {
    const told = body.replace('"format":2', `"format":${format}`);
    const sha256 = createHash('sha256').update(told).digest('hex');
    const mac = sealer.mac(`backup-metadata\n${record}\n${sha256}`);
    await put(target, `${record}/backup-metadata`, `${told},"mac":"${mac}"}\n`);
    const listed = await (await OpenRecord.open(target, record, { signal: never, sealer })).runs();
    t.equal(listed.complete.at(-1)?.pause_ms, format < 3 ? 99 : 12, `of format ${format}`);
  }
});

t.test("a manifest under another run's name is damaged", async (t) => {
  const target = await threeRuns(t);
  await put(target, `${record}/2026-11-04_00-00-00/manifest.json`, manifestText(onBase(three)));
  t.match((await recordRuns(target, record, never)).damaged, [{ run: '2026-11-04_00-00-00', why: /renamed/ }]);
});

t.test('a folder whose name is no time is no run, whatever it contains', async (t) => {
  const target = await threeRuns(t);
  const odd = ['2026-13-45_00-00-00', '2026-02-30_00-00-00', '2026-11-29_24-00-00', '9999-12-31_23-59-59', '2026-1-1_0-0-0'];
  for (const name of odd) {
    t.notOk(isRunName(name), name);
    await put(target, `${record}/${name}/manifest.json`, 'no manifest');
  }
  const { complete, damaged } = await recordRuns(target, record, never);
  t.same([complete.map(({ run }) => run), damaged], [[three, two, one], []]);
});

t.test('nothing that a run needs is collected', async (t) => {
  const target = await threeRuns(t);
  const before = await filesOf(target, record);
  t.same(await collect(target), []);
  t.same(await filesOf(target, record), before);
  for (const run of [one, two]) await removeRun(target, record, run);
  await collect(target);
  const kept = [
    base.path,
    'image.snar.zst',
    volume.path,
    `${one}/data.snar.zst`,
    ...['rootfs.tar.zst', 'data.tar.zst', 'manifest.json'].map((f) => `${three}/${f}`),
  ];
  t.same(await filesOf(target, record), kept.sort(), 'the bases of runs that are gone stay while a run needs them');
  await removeRun(target, record, three);
  await collect(target);
  t.same(await filesOf(target, record), [], 'and go with the last');
});

t.test('leftovers of broken runs are collected', async (t) => {
  const target = await threeRuns(t);
  const before = await filesOf(target, record);
  const rubbish = ['image-2026-11-04_00-00-00.tar.zst', 'image-2026-11-04_00-00-00.snar.zst', '2026-11-04_00-00-00/rootfs.tar.zst'];
  for (const path of [...rubbish, `${two}/rootfs.1.tar.zst`, `${one}/rootfs.snar.zst`]) await put(target, `${record}/${path}`, 'left');
  t.equal((await collect(target)).length, 5);
  t.same(await filesOf(target, record), before);
});

t.test('foreign files are never collected', async (t) => {
  const target = await threeRuns(t);
  const foreign = [
    'backup-metadata',
    'verified.json',
    'README.txt',
    'image.iso',
    'image-of-mine.tar',
    'notes/manifest.json',
    '2026-11/x.tar',
    `${two}/note.txt`,
    `${two}/mine/x.tar`,
  ];
  for (const path of [...foreign, '2026-11-04_00-00-00/of-somebody.txt']) await put(target, `${record}/${path}`, 'mine');
  await put(target, 'container-backup@other/image.tar.zst', 'another record');
  await put(target, 'photos/2026-11-04_00-00-00/image.tar', 'no record');
  await put(target, `${record}/2026-11-04_00-00-00/rootfs.tar.zst`, 'left');
  const before = await filesOf(target, '');
  await collect(target);
  t.same(
    await filesOf(target, ''),
    before.filter((path) => path !== `${record}/2026-11-04_00-00-00/rootfs.tar.zst`),
  );
});

t.test('while a manifest cannot be read, nothing is collected', async (t) => {
  const whole = manifestText(onBase(three));
  const cases = {
    cut: whole.slice(0, 100),
    empty: '',
    altered: whole.replace('"pause_ms":12', '"pause_ms":13'),
    'of a newer format': inFormat2(JSON.stringify({ ...onBase(three), format: 3 })),
    'with what only a later version knows': inFormat2(JSON.stringify({ ...onBase(three), must_know: ['later'] })),
    'of a newer format with its hash elsewhere': JSON.stringify({ ...onBase(three), format: 3 }),
    'no JSON': inFormat2('x'),
  };
  for (const [name, content] of Object.entries(cases)) {
    const target = await threeRuns(t);
    await put(target, `${record}/${three}/manifest.json`, content);
    await removeRun(target, record, two);
    const before = await filesOf(target, record);
    t.same(await collect(target), [], name);
    t.same(await filesOf(target, record), before, `${name}: every file is there`);
    t.match((await recordRuns(target, record, never)).damaged, [{ run: three }], `${name}: and it is told`);
  }
});

t.test('a run that appeared after the record was read is not collected', async (t) => {
  const target = await threeRuns(t);
  const runs = await recordRuns(target, record, never);
  await putRun(target, record, onBase('2026-11-04_00-00-00'));
  const before = await filesOf(target, record);
  for (const known of [runs, { complete: [], damaged: [] }]) t.same((await collectGarbage(target, record, known)).gone, []);
  t.same(await filesOf(target, record), before);
});

t.test('a run is found by every name that a client may use', async (t) => {
  const { target } = await someTarget(t);
  const other = 'container-backup@7'; // its name is the other's job id
  for (const run of [one, two]) await putRun(target, record, manifest(run, { job: { id: 3, name: 'web' } }));
  await putRun(target, other, manifest(three, { job: { id: 9, name: '7' } }));
  const found = async (portfolio?: string) => {
    const hit = await findRun(target, portfolio, never);
    return `${hit.record}/${hit.manifest.run}`;
  };
  const forms = {
    web: two,
    '3': two,
    'container-backup@web': two,
    [`web/${one}`]: one,
    [`3/${one}`]: one,
    [`${record}/${one}`]: one,
    [one]: one,
  };
  for (const [portfolio, run] of Object.entries(forms)) t.equal(await found(portfolio), `${record}/${run}`, portfolio);
  for (const portfolio of ['7', '9', three]) t.equal(await found(portfolio), `${other}/${three}`, `${portfolio}: a name wins over an id`);
  for (const portfolio of ['absent', '8', 'web/2026-01-01_00-00-00', '2026-01-01_00-00-00', 'we', 'web/', `${record}/x`])
    await t.rejects(found(portfolio), { code: 'not_found', message: /records here: container-backup@7, container-backup@web/ }, portfolio);
  await t.rejects(found(), { code: 'conflict', message: /container-backup@7, container-backup@web/ }, 'none named, and there are two');
  await target.remove(other);
  t.equal(await found(), `${record}/${two}`, 'none named, and there is one');
});

t.test('a damaged newest run is reported, never skipped silently', async (t) => {
  const target = await threeRuns(t);
  await put(target, `${record}/${three}/manifest.json`, 'damaged');
  const warnings = [{ code: 'run_damaged', count: 1, names: [three] }];
  t.match(await findRun(target, 'web', never), { manifest: { run: two }, warnings });
  await t.rejects(findRun(target, `web/${three}`, never), { code: 'damaged' });
  t.equal((await findRun(target, `web/${two}`, never)).manifest.run, two, 'an older one can be named');
  await put(target, `${record}/${one}/manifest.json`, 'damaged');
  await put(target, `${record}/${three}/manifest.json`, manifestText(onBase(three)));
  t.match(await findRun(target, 'web', never), { manifest: { run: three }, warnings: [] }, 'an older one that is damaged does not matter');
  for (const run of [two, three]) await put(target, `${record}/${run}/manifest.json`, 'damaged');
  await t.rejects(findRun(target, 'web', never), { code: 'damaged', message: new RegExp(`no run of ${record} is whole; name ${three} `) });
});
