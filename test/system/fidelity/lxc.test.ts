import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { pointsOf } from '../../support/depth.js';
import { lxc, startLxc } from '../../support/lxc.js';
import { allDifferences, backUp, featureSets, levelsOf, makeJob, restore, settle, type Trees, treesOf, waysOf } from './bench.js';
import { changeTricks, makeTricks, ofTrick, renamedLinks, tricks } from './level-pitfalls.js';
import { dropClone, type LxcSubject, makeLxcSubject } from './lxc-subject.js';

/** Each start of LXC changes the time of the root folder. The stopped container shows that a restore brings the time back. */
const ofStart = [/^rootfs "": mtime was \d+, is \d+$/];
/** A clone has an empty machine id, because two machines must not have the same. */
const ofClones = [...ofStart, /^rootfs "etc\/machine-id": /];

/** No undo: these suites restore often, and the replaced containers would fill the disk. */
const noUndo = { flags: ['--undo-hours', '0'] };

interface State {
  readonly what: string;
  readonly trees: Trees;
  /** Runs that stored it, by job. */
  readonly runs: Map<number, string>;
}

/** Backs the container up with every job. */
async function keptState(a: Appliance, subject: LxcSubject, jobs: readonly number[], what: string): Promise<State> {
  const runs = new Map<number, string>();
  const trees = await treesOf(await subject.places());
  for (const job of jobs) runs.set(job, await backUp(a.service, job));
  return { what, trees, runs };
}

const { everyCell } = pointsOf('fidelity');

/** When not every cell is tested, each set of features has one kind of root. */
for (const shifted of [false, true]) {
  const kind = shifted ? 'idmapped' : 'privileged';
  t.test(`lxc, ${kind}: every cell of the matrix is restored without a difference`, async (t) => {
    const a = await makeAppliance(t, noUndo);
    const subject = await makeLxcSubject(a, 'matrix', { shifted, nasty: shifted ? ['rootfs', 'host'] : ['rootfs', 'data'] });
    await startLxc(a.lxcPath, subject.name);
    const sets = featureSets.filter((_, n) => everyCell || n % 2 === Number(shifted));
    const titles = sets.map((features) => features.join('-') || 'plain');
    const jobs: number[] = [];
    for (const [index, features] of sets.entries())
      jobs.push(await makeJob(a.service, { name: titles[index] ?? '', container: subject.name, type: 'lxc', features }));
    await settle();
    const base = await keptState(a, subject, jobs, 'base alone');
    await subject.change(1);
    const one = await keptState(a, subject, jobs, 'base and one differential');
    await subject.change(2);
    const two = await keptState(a, subject, jobs, 'base and the second differential');
    t.same(allDifferences(base.trees, one.trees).length > 50, true, 'the states differ');
    t.same(allDifferences(one.trees, two.trees).length > 50, true, 'the states differ');
    const config = await readFile(join(a.lxcPath, subject.name, 'config'), 'utf8');
    a.alsoDestroy('clone');
    for (const state of [two, base]) {
      const { what, trees, runs } = state;
      for (const [index, job] of jobs.entries()) {
        const portfolio = `${titles[index]}/${runs.get(job)}`;
        const cell = `${kind}, ${titles[index]}, ${what}`;
        const ways = waysOf(index + (state === two ? 0 : 1));
        if (ways.inPlace) {
          await restore(a.service, { portfolio, container: subject.name, type: 'lxc' });
          t.same(allDifferences(trees, await treesOf(await subject.places()), ofStart), [], `${cell}, in place`);
        }
        if (!ways.clone) continue;
        await restore(a.service, { portfolio, container: 'clone', type: 'lxc' });
        t.same(allDifferences(trees, await treesOf(await subject.places('clone')), ofClones), [], `${cell}, as a clone`);
        await dropClone(a, subject, 'clone');
      }
    }
    t.equal(await readFile(join(a.lxcPath, subject.name, 'config'), 'utf8'), config, 'the configuration is byte for byte what it was');
    const [plain = 0] = jobs;
    for (const source of ['rootfs', 'data', 'srv-host', 'srv-read-only'])
      t.match(await levelsOf(a.service, plain, two.runs.get(plain) ?? '', source), [/^0 /, /^1 /], `${source} came of two levels`);
  });
}

const a = await makeAppliance(t, noUndo);
const placesOf = (subject: LxcSubject, container?: string) => subject.places(container).then(treesOf);
const configOf = (name: string) => readFile(join(a.lxcPath, name, 'config'), 'utf8');
const smallSubject = async (name: string) => {
  const subject = await makeLxcSubject(a, name, { nasty: [] });
  await startLxc(a.lxcPath, name);
  return { subject, job: await makeJob(a.service, { name, container: name, type: 'lxc', features: ['pause'] }) };
};
const bring = (portfolio: string, container: string) => restore(a.service, { portfolio, container, type: 'lxc' });

t.test('every change between two runs comes back', async (t) => {
  await a.lxc('tricky');
  const places = { data: join(a.lxcPath, 'tricky/volumes/data'), rootfs: join(a.lxcPath, 'tricky/rootfs') };
  await makeTricks(join(places.data, 'tricks'));
  await makeTricks(join(places.rootfs, 'links'), [renamedLinks]);
  await settle();
  const job = await makeJob(a.service, { name: 'tricky', container: 'tricky', type: 'lxc', features: ['pause'] });
  await backUp(a.service, job);
  await changeTricks(join(places.data, 'tricks'));
  await changeTricks(join(places.rootfs, 'links'), [renamedLinks]);
  const before = await treesOf(places);
  const run = await backUp(a.service, job);
  t.match(await levelsOf(a.service, job, run, 'data'), [/^0 /, /^1 /, /^2 /], 'a base, a differential and a paused tail');
  await bring('tricky', 'tricky');
  const found = allDifferences(before, await treesOf(places), ofStart);
  for (const [index, { title }] of tricks.entries()) t.same(ofTrick(found, index), [], title);
  t.same(found, [], `and all else, with ${renamedLinks.title}`);
});

t.test('a backup after a restore in place builds on the same base and is restored', async (t) => {
  const { subject, job } = await smallSubject('again');
  await settle();
  const first = await backUp(a.service, job);
  for (const round of [1, 2]) {
    await bring(`again/${first}`, 'again');
    await writeFile(join(a.lxcPath, 'again/rootfs', `made-${round}`), '');
    const before = await placesOf(subject);
    await backUp(a.service, job);
    await bring('again', 'again');
    t.same(allDifferences(before, await placesOf(subject), ofStart), [], `round ${round}`);
  }
});

t.test('a container that was deleted with all its folders is restored under its own name', async (t) => {
  const { subject, job } = await smallSubject('deleted');
  const before = await placesOf(subject);
  const config = await configOf('deleted');
  await backUp(a.service, job);
  await dropClone(a, subject, 'deleted');
  await bring('deleted', 'deleted');
  t.same(allDifferences(before, await placesOf(subject), ofStart), [], 'all of it is as it was, its machine id too');
  t.equal(await configOf('deleted'), config, 'as is its configuration, its hardware address too');
  t.equal(await lxc('info', a.lxcPath, 'deleted', '-sH'), 'RUNNING');
});

t.test('a stopped container comes back stopped, with every timestamp', async (t) => {
  const subject = await makeLxcSubject(a, 'stopped', { nasty: [] });
  const job = await makeJob(a.service, { name: 'stopped', container: 'stopped', type: 'lxc', features: ['compress', 'pause'] });
  const before = await placesOf(subject);
  await backUp(a.service, job);
  await subject.change(1);
  await bring('stopped', 'stopped');
  t.same(allDifferences(before, await placesOf(subject)), [], 'in place');
  a.alsoDestroy('stopped-clone');
  await bring('stopped', 'stopped-clone');
  const found = allDifferences(before, await placesOf(subject, 'stopped-clone'));
  t.same(
    found.filter((line) => !line.startsWith('rootfs "etc/machine-id": ')),
    [],
    'as a clone',
  );
  for (const name of ['stopped', 'stopped-clone']) t.equal(await lxc('info', a.lxcPath, name, '-sH'), 'STOPPED');
});

t.test('a clone has the same configuration, except for the lines that must differ', async (t) => {
  const { job } = await smallSubject('verbatim');
  const extra = ['', '  # indented   comment', 'lxc.cap.drop =   sys_module mac_admin', 'lxc.environment = A="b c"  ', '', ''];
  await appendFile(join(a.lxcPath, 'verbatim/config'), extra.join('\n'));
  const config = await configOf('verbatim');
  await backUp(a.service, job);
  await bring('verbatim', 'verbatim');
  t.equal(await configOf('verbatim'), config, 'in place: byte for byte');
  a.alsoDestroy('other');
  await bring('verbatim', 'other');
  const now = await configOf('other');
  const pairs = now.split('\n').map((line, index) => [config.split('\n')[index], line]);
  const host = (what: string) => `lxc.mount.entry = ${a.folder}/${what}-of-verbatim`;
  const own = (name: string) => `lxc.mount.entry = ${a.lxcPath}/${name}/volumes/data data none bind,create=dir 0 0`;
  const root = (name: string) => `lxc.rootfs.path   =  dir:${a.lxcPath}/${name}/rootfs`;
  const bound = (from: string, rest: string) => [`${from} ${rest} 0 0`, `${from}.other ${rest} 0 0`];
  t.equal(now.split('\n').length, config.split('\n').length);
  t.match(
    pairs.filter(([old, line]) => old !== line),
    [
      [root('verbatim'), root('other')],
      ['lxc.uts.name = verbatim', 'lxc.uts.name = other'],
      ['lxc.net.0.hwaddr = 00:16:3e:01:02:03', /^lxc\.net\.0\.hwaddr = 00:16:3e:[0-9a-f:]{8}$/],
      [own('verbatim'), own('other')],
      bound(host('host'), 'srv/host none bind,create=dir'),
      bound(host('read-only'), 'srv/read-only none bind,ro,create=dir'),
      bound(`${host('file')}/app.conf`, 'etc/app.conf none bind,create=file'),
    ],
  );
  t.equal(pairs.filter(([old, line]) => old !== line).length, 7, 'and nothing else');
});

t.test('retention deletes older runs, and every kept run is restored', async (t) => {
  await a.lxc('kept');
  const data = join(a.lxcPath, 'kept/volumes/data');
  await writeFile(join(data, 'ballast'), Buffer.alloc(1_000_000, 'a')); // a base that differentials don't outgrow
  await settle();
  const job = await makeJob(a.service, { name: 'kept', container: 'kept', type: 'lxc', retention: 3, features: ['compress'] });
  const states: { run: string; trees: Trees }[] = [];
  for (let n = 0; n < 5; n++) {
    await writeFile(join(data, `file-${n}`), `of run ${n}`);
    const trees = await treesOf({ data });
    states.push({ trees, run: await backUp(a.service, job) });
  }
  const record = join(a.share, 'backups/container-backup@kept');
  const [first, ...rest] = states.map(({ run }) => run);
  const tops = ['backup-metadata', 'image.snar.zst', 'image.tar.zst', 'verified.json'];
  t.same((await readdir(record)).sort(), [first, ...rest.slice(1), ...tops].sort());
  t.same((await readdir(join(record, first ?? ''))).sort(), ['data.snar.zst', 'data.tar.zst'], 'of a run that is gone, the bases');
  t.match(
    await a.service.call('GET', `/backup/${job}/runs`),
    states
      .slice(-3)
      .reverse()
      .map(({ run }) => ({ run, ok: true })),
  );
  for (const { run, trees } of states.slice(-3)) {
    await bring(`kept/${run}`, 'kept');
    t.same(allDifferences(trees, await treesOf({ data })), [], run);
  }
  await t.rejects(bring(`kept/${first}`, 'kept'), /not_found/);
});

t.test('a differential larger than half its base makes a new base, and both are restored', async (t) => {
  await a.lxc('grown');
  const data = join(a.lxcPath, 'grown/volumes/data');
  await writeFile(join(data, 'ballast'), Buffer.alloc(1_000_000, 'a'));
  const job = await makeJob(a.service, { name: 'grown', container: 'grown', type: 'lxc' });
  await settle();
  const states: { run: string; trees: Trees; levels: string[] }[] = [];
  for (const size of [1000, 400_000, 600_000, 1000, 1000]) {
    await writeFile(join(data, `file-${states.length}`), Buffer.alloc(size, 'b'));
    const trees = await treesOf({ data });
    const run = await backUp(a.service, job);
    states.push({ trees, run, levels: await levelsOf(a.service, job, run, 'data') });
  }
  t.same(
    states.map(({ levels }) => levels.length),
    [1, 2, 2, 1, 2],
    'levels of each run',
  );
  t.match(states[4]?.levels[0], states[3]?.run, 'the last builds on the new base');
  for (const { run, trees } of states) {
    await bring(`grown/${run}`, 'grown');
    t.same(allDifferences(trees, await treesOf({ data })), [], `from ${run}`);
  }
});

t.test('excluded files are listed in left_out and stay as they are, and the rest comes back', async (t) => {
  const { subject, job } = await smallSubject('partly');
  const cache = join(a.lxcPath, 'partly/rootfs/var/cache');
  await mkdir(join(cache, 'deep'), { recursive: true });
  for (const name of ['kept.conf', 'x.tmp', 'deep/y.tmp']) await writeFile(join(cache, name), name);
  await a.service.call('PUT', `/backup/${job}`, { exclude: ['rootfs:/var/cache/*.tmp', 'volume:srv-host'] });
  const before = await placesOf(subject);
  const run = await backUp(a.service, job);
  const leftOut = part(await a.service.call('GET', `/backup/${job}/runs/${run}`), 'left_out');
  const reason = 'excluded by the job';
  t.match(leftOut, [{}, { path: 'rootfs:/var/cache/*.tmp', reason }, { path: `${a.folder}/host-of-partly`, reason }]);
  await writeFile(join(a.folder, 'host-of-partly/new'), 'stays: it is no part of the run');
  await bring('partly', 'partly');
  t.same(allDifferences(before, await placesOf(subject), [...ofStart, /^host "(new)?":/]), [], 'what is excluded stays as it was');
  t.ok((await readdir(join(a.folder, 'host-of-partly'))).includes('new'), 'the volume that was left out is as it was');
});

t.test('a removed or added exclude counts from the next run on', async (t) => {
  await a.lxc('changing');
  const data = join(a.lxcPath, 'changing/volumes/data');
  await mkdir(join(data, 'a/b'), { recursive: true });
  for (const name of ['a/x', 'a/b/x', 'a/b/y']) await writeFile(join(data, name), name);
  const job = await makeJob(a.service, { name: 'changing', container: 'changing', type: 'lxc', exclude: ['data:/a/b/*'] });
  await settle();
  await backUp(a.service, job);
  const before = await treesOf({ data });
  await a.service.call('PUT', `/backup/${job}`, { exclude: [] });
  await backUp(a.service, job);
  await bring('changing', 'changing');
  t.same(allDifferences(before, await treesOf({ data })), [], 'nothing is excluded any more: all of it is in the run');
  await backUp(a.service, job);
  await a.service.call('PUT', `/backup/${job}`, { exclude: ['data:/a/b'] });
  await backUp(a.service, job);
  await rm(join(data, 'a/b'), { recursive: true });
  await bring('changing', 'changing');
  t.same(await readdir(join(data, 'a')), ['x'], 'what is excluded by now does not come back from the base');
});

t.test('two volumes whose names differ in case only come back apart', async (t) => {
  const [upper, lower] = ['Data', 'dATA'].map((name) => join(a.lxcPath, 'cases', name));
  const entry = (path: string, mountpoint: string) => `lxc.mount.entry = ${path} ${mountpoint} none bind,create=dir 0 0`;
  await a.lxc('cases', { stopped: true, lines: [entry(`${upper}`, 'Data'), entry(`${lower}`, 'dATA')] });
  const places = { data: join(a.lxcPath, 'cases/volumes/data'), upper: `${upper}`, lower: `${lower}` };
  for (const [name, path] of Object.entries(places)) {
    await mkdir(path, { recursive: true });
    await writeFile(join(path, `of-${name}`), name);
  }
  const job = await makeJob(a.service, { name: 'cases', container: 'cases', type: 'lxc', features: ['compress'] });
  const before = await treesOf(places);
  await backUp(a.service, job);
  const run = await backUp(a.service, job);
  const files = (await readdir(join(a.share, 'backups/container-backup@cases', run))).map((name) => name.toLowerCase());
  t.equal(new Set(files).size, files.length, 'no two files of a run differ only in case');
  for (const path of Object.values(places)) await writeFile(join(path, 'later'), '');
  await bring('cases', 'cases');
  t.same(allDifferences(before, await treesOf(places)), []);
});
