/** Docker restores: in place and as clone, compressed or not, paused or not, from a base alone and from base and levels. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type Fields, fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import type { Snapshot } from '../../support/fidelity.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import {
  allDifferences,
  backUp,
  featureSets,
  levelsOf,
  makeJob,
  restore,
  settle,
  type Tree,
  type Trees,
  treesOf,
  waysOf,
} from './bench.js';
import { type DockerSubject, makeDockerSubject } from './docker-subject.js';
import { changeTricks, makeTricks, ofTrick, tricks } from './level-pitfalls.js';

interface State {
  readonly what: string;
  readonly trees: Trees;
  readonly diff: readonly string[];
  /** Runs that stored it, by job. */
  readonly runs: readonly string[];
}

async function keptState(subject: DockerSubject, what: string, backUpAll: () => Promise<string[]>): Promise<State> {
  const trees = await treesOf(await subject.places());
  const diff = await subject.diff();
  return { what, trees, diff, runs: await backUpAll() };
}

/** Removes a clone with its volumes, so that the next one can have its name. */
async function dropClone(docker: Dockerd, subject: DockerSubject, clone: string): Promise<void> {
  const { host, file, 'read-only': readOnly } = await subject.places(clone);
  await docker.removeContainer(clone);
  for (const path of [host, file, readOnly]) await rm((path ?? '').replace(/:file$/, ''), { recursive: true });
}

t.test('docker: every cell of the matrix is restored without a difference', async (t) => {
  const docker = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '0'] });
  const subject = await makeDockerSubject(docker, a.folder, 'matrix');
  const titles = featureSets.map((features) => features.join('-') || 'plain');
  const jobs: number[] = [];
  for (const [index, features] of featureSets.entries())
    jobs.push(await makeJob(a.service, { name: titles[index] ?? '', container: subject.name, type: 'docker', features }));
  const backUpAll = async () => {
    const runs: string[] = [];
    for (const job of jobs) runs.push(await backUp(a.service, job));
    return runs;
  };
  await settle();
  const base = await keptState(subject, 'base alone', backUpAll);
  await subject.change(1);
  await keptState(subject, 'base and one differential', backUpAll);
  await subject.change(2);
  const two = await keptState(subject, 'base and the second differential', backUpAll);
  t.ok(allDifferences(base.trees, two.trees).length > 50, 'the states differ');
  for (const [index, job] of jobs.entries()) {
    const levels = await levelsOf(a.service, job, two.runs[index] ?? '', 'rootfs');
    t.equal(levels.length, titles[index]?.includes('pause') ? 3 : 2, `${titles[index]}: ${levels.join(', ')}`);
    t.equal(
      (await levelsOf(a.service, job, two.runs[index] ?? '', '@image'))[0]?.startsWith('0 image.tar'),
      true,
      'the image is stored once',
    );
  }
  for (const state of [two, base]) {
    const { what, trees, diff, runs } = state;
    for (const [index, run] of runs.entries()) {
      const portfolio = `${titles[index]}/${run}`;
      const cell = `${titles[index]}, ${what}`;
      const ways = waysOf(index + (state === two ? 0 : 1));
      if (ways.inPlace) {
        await restore(a.service, { portfolio, container: subject.name, type: 'docker' });
        t.same(allDifferences(trees, await treesOf(await subject.places())), [], `${cell}, in place`);
        t.same(await subject.diff(), diff, `${cell}: the engine sees the same changes of the image`);
      }
      if (!ways.clone) continue;
      await restore(a.service, { portfolio, container: 'clone', type: 'docker' });
      t.same(allDifferences(trees, await treesOf(await subject.places('clone'))), [], `${cell}, as a clone`);
      t.same(await subject.diff('clone'), diff, `${cell}, as a clone: the same changes of the image`);
      await dropClone(docker, subject, 'clone');
    }
  }
});

t.test('docker: a container is restored with its volumes and image after all were lost', async (t) => {
  const docker = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd: docker });
  const subject = await makeDockerSubject(docker, a.folder, 'gone');
  const job = await makeJob(a.service, { name: 'all', container: 'gone', type: 'docker', features: ['compress', 'pause'] });
  await settle();
  const trees = await treesOf(await subject.places());
  const diff = await subject.diff();
  const run = await backUp(a.service, job);
  await dropClone(docker, subject, 'gone');
  await docker.client.json('DELETE', '/images/sample:1');
  t.same(await docker.client.json('GET', '/images/json'), [], 'nothing is left of it');
  await restore(a.service, { portfolio: `all/${run}`, container: 'gone', type: 'docker' });
  t.same(allDifferences(trees, await treesOf(await subject.places())), []);
  t.same(await subject.diff(), diff);
  t.match(await docker.client.json('GET', '/images/json'), [{ RepoTags: ['sample:1'] }], 'with the tag of its image');
});

const inspectOf = async (docker: Dockerd, name: string): Promise<Fields> =>
  fields(await docker.client.json('GET', `/containers/${name}/json`));

/** Leaves out the link count of whiteouts: the kernel may use one inode for all of them. */
function withoutWhiteoutLinks(tree: Tree): Tree {
  const isWhiteout = ({ type, rdev }: Snapshot) => type === 'character device' && rdev === 0n;
  return new Map([...tree].map(([name, one]) => [name, isWhiteout(one) ? { ...one, links: '' } : one]));
}

/** The container's own layer on the host, with its whiteouts, and the engine's list of changes. */
async function layerOf(docker: Dockerd, name: string): Promise<{ trees: Trees; diff: string[] }> {
  const { UpperDir } = fields(fields((await inspectOf(docker, name)).GraphDriver).Data);
  const changes = items(await docker.client.json('GET', `/containers/${name}/changes`)).map(fields);
  const { upper = new Map() } = await treesOf({ upper: text(UpperDir) });
  return { trees: { upper: withoutWhiteoutLinks(upper) }, diff: changes.map(({ Kind, Path }) => `${Kind} ${Path}`).sort() };
}

t.test('docker: changes of the layer and the volumes come back', async (t) => {
  const docker = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '0'] });
  await docker.sampleImage('sample:1');
  const make = async (name: string, HostConfig: Fields = {}) => {
    const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL' };
    await docker.run(name, { ...body, HostConfig: { NetworkMode: 'none', ...HostConfig } });
  };
  const jobOf = (container: string, more: object = {}) =>
    makeJob(a.service, { name: container, container, type: 'docker', features: ['pause'], ...more });
  const bring = (portfolio: string, container: string) => restore(a.service, { portfolio, container, type: 'docker' });

  await t.test('removed files of the image stay removed, and replaced folders stay opaque', async (t) => {
    await make('white');
    const job = await jobOf('white');
    await docker.exec('white', 'rm /bin/true; rm -r /seed; mkdir /seed; echo new > /seed/new; rm /bin/chmod; mkdir /bin/chmod');
    const first = await layerOf(docker, 'white');
    t.ok(first.diff.includes('2 /bin/true') && first.diff.includes('0 /seed'), first.diff.join());
    const run = await backUp(a.service, job);
    await docker.exec('white', 'echo back > /bin/true; rm -r /seed; rm -r /bin/chmod; echo file > /bin/chmod; mkdir /more; rm /bin/mkdir');
    const second = await layerOf(docker, 'white');
    await backUp(a.service, job);
    for (const [portfolio, was] of [
      ['white', second],
      [`white/${run}`, first],
    ] as const) {
      for (const container of ['white', 'white-clone']) {
        await bring(portfolio, container);
        const is = await layerOf(docker, container);
        t.same(allDifferences(was.trees, is.trees), [], `${portfolio} into ${container}: the layer`);
        t.same(is.diff, was.diff, `${portfolio} into ${container}: what the engine says`);
      }
      await docker.client.json('DELETE', '/containers/white-clone?force=1');
    }
  });

  await t.test('every change between two runs comes back', async (t) => {
    await make('tricky', { Binds: ['tricky-data:/data'] });
    const placesOf = async () => {
      const { GraphDriver, Mounts } = await inspectOf(docker, 'tricky');
      return { root: join(text(fields(fields(GraphDriver).Data).MergedDir), 'inner'), volume: text(fields(items(Mounts)[0]).Source) };
    };
    await docker.exec('tricky', 'mkdir /inner');
    const job = await jobOf('tricky');
    for (const place of Object.values(await placesOf())) await makeTricks(join(place, 'tricks'));
    await settle();
    await backUp(a.service, job);
    for (const place of Object.values(await placesOf())) await changeTricks(join(place, 'tricks'));
    const before = await treesOf(await placesOf());
    const run = await backUp(a.service, job);
    for (const source of ['rootfs', 'tricky-data']) t.equal((await levelsOf(a.service, job, run, source)).length, 3, `${source}: levels`);
    await bring('tricky', 'tricky');
    const found = allDifferences(before, await treesOf(await placesOf()));
    for (const [index, { title }] of tricks.entries()) t.same(ofTrick(found, index), [], title);
    t.same(found, [], 'and all else');
    await backUp(a.service, job);
    await bring('tricky', 'tricky');
    t.same(allDifferences(before, await treesOf(await placesOf())), [], 'and once more, from a backup of what was restored');
  });

  await t.test('a container that was recreated from a newer image comes back from each of its runs', async (t) => {
    const Binds = ['app-data:/data'];
    await make('app', { Binds });
    const job = await jobOf('app', { retention: 2 });
    const states: { run: string; image: unknown; layer: Awaited<ReturnType<typeof layerOf>> }[] = [];
    const keep = async () =>
      states.push({
        layer: await layerOf(docker, 'app'),
        image: (await inspectOf(docker, 'app')).Image,
        run: await backUp(a.service, job),
      });
    await docker.exec('app', 'echo 1 > /version; rm /seed/file; echo 1 > /data/version');
    await keep();
    await docker.client.json('DELETE', '/containers/app?force=1');
    await docker.sampleImage('sample:1');
    await make('app', { Binds });
    await docker.exec('app', 'echo 2 > /version; rm /bin/true; echo 2 > /data/version');
    await keep();
    const record = join(a.share, 'backups/container-backup@app');
    const images = async () => (await readdir(record)).filter((name) => name.startsWith('image'));
    t.equal((await images()).length, 2, 'each image is stored');
    for (const { run, image, layer } of states) {
      await bring(`app/${run}`, 'app');
      const now = await layerOf(docker, 'app');
      t.equal((await inspectOf(docker, 'app')).Image, image, `${run}: its own image`);
      t.same([allDifferences(layer.trees, now.trees), now.diff], [[], layer.diff], `${run}: its own layer`);
    }
    await keep();
    t.same(await images(), [`image-${states[1]?.run}.tar`], 'the older image goes with the last run that needs it');
  });

  await t.test('excluded files are listed in left_out and stay as they are, the rest comes back', async (t) => {
    const host = join(a.folder, 'partly-host');
    await mkdir(host);
    for (const name of ['a.conf', 'b.log']) await writeFile(join(host, name), name);
    await make('partly', { Binds: ['partly-data:/data', `${host}:/host`] });
    const [name = ''] = items((await inspectOf(docker, 'partly')).Mounts)
      .map(fields)
      .map(({ Source }) => text(Source))
      .filter((s) => s === host);
    await docker.exec('partly', 'mkdir /cache; echo x > /cache/x; echo y > /kept; echo v > /data/v');
    const source = name.replace(/^\/+/, '').replace(/[^a-zA-Z0-9._-]+/g, '-');
    const job = await jobOf('partly', { exclude: ['volume:partly-data', 'rootfs:/cache/*', `${source}:/*.log`] });
    const run = await backUp(a.service, job);
    const leftOut = part(await a.service.call('GET', `/backup/${job}/runs/${run}`), 'left_out');
    t.match(leftOut, [
      { path: /partly-data\/_data$/ },
      { path: 'rootfs:/cache/*' },
      { path: `${source}:/*.log`, reason: 'excluded by the job' },
    ]);
    await docker.exec('partly', 'echo later > /data/v; echo later > /kept');
    await bring('partly', 'partly');
    await docker.exec('partly', '[ -e /cache/x ] && read a < /kept && [ $a = y ] && read b < /data/v && [ $b = later ]');
    t.same([(await readdir(host)).sort(), await readFile(join(host, 'a.conf'), 'utf8')], [['a.conf', 'b.log'], 'a.conf']);
  });

  await t.test('two volumes whose names differ in case only come back apart', async (t) => {
    await make('cases', { Binds: ['Case:/upper', 'case:/lower'] });
    await docker.exec('cases', 'echo upper > /upper/f; echo lower > /lower/f');
    const run = await backUp(a.service, await jobOf('cases'));
    const files = (await readdir(join(a.share, 'backups/container-backup@cases', run))).map((file) => file.toLowerCase());
    t.equal(new Set(files).size, files.length, 'no two files of a run differ only in case');
    await docker.exec('cases', 'rm /upper/f /lower/f');
    await bring('cases', 'cases');
    await docker.exec('cases', 'read a < /upper/f && [ $a = upper ] && read b < /lower/f && [ $b = lower ]');
  });
});
