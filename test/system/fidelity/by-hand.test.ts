/** A backup of each engine is restored by hand, as docs/archive-format.md says, with the programs of any Linux. */
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { fields, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { differences, type Snapshot, snapshotOf } from '../../support/fidelity.js';
import { changeTree, makeNastyTree } from '../../support/nasty-tree.js';
import { backedUp, list, ranAgain } from '../bed/request-bodies.js';
import { flippedByte } from '../faults/ways.js';
import { settle } from './bench.js';
import { manifestHashes, typed } from './shell-block.js';

const dockerd = await ownDockerd(t);
const a = await makeAppliance(t, { dockerd });
const dest = { target: 'local', path: '/test' };
const recordOf = (name: string) => join(a.share, `container-backup@${name}`);

async function scratch(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'by-hand-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** The manifest's archives of a source: levels in their order. */
async function levels(job: number, run: string, source: string): Promise<unknown[]> {
  const archives = list(part(await a.service.call('GET', `/backup/${job}/runs/${run}`), 'archives'));
  return archives.filter((one) => part(one, 'source') === source).map((one) => part(one, 'level'));
}

const only = (tree: ReadonlyMap<string, Snapshot>, name: string) => new Map([...tree].filter(([path]) => path === name));

for (const features of [['pause'], ['pause', 'compress']]) {
  t.test(`LXC, ${features.join(' and ')}: a base, a level and a paused tail are restored by hand`, async (t) => {
    const name = features.length === 1 ? 'plain' : 'packed';
    const file = join(a.folder, `host-of-${name}/app.conf`);
    await mkdir(dirname(file));
    await writeFile(file, 'of the host\n');
    await chmod(file, 0o640);
    await a.lxc(name, { lines: [`lxc.mount.entry = ${file} etc/app.conf none bind,create=file 0 0`] });
    const root = join(a.lxcPath, name, 'rootfs');
    const data = join(a.lxcPath, name, 'volumes/data');
    if (name === 'plain') await makeNastyTree(join(root, 'nasty'));
    await makeNastyTree(join(data, 'nasty'));
    await settle();
    const { id, run: first } = await backedUp(a.service, { job_name: name, container_id: name, features, dest });
    const before = { rootfs: await snapshotOf(root), data: await snapshotOf(data) };
    if (name === 'plain') await changeTree(join(root, 'nasty'));
    await changeTree(join(data, 'nasty'));
    const second = await ranAgain(a.service, id);
    t.same(await levels(id, second, 'data'), [0, 1, 2], 'the run has all three');
    const into = await scratch(t);
    const said = await typed(recordOf(name), second, into);
    const [computed, kept] = manifestHashes(said);
    t.match(kept, /^[0-9a-f]{64}$/);
    t.equal(computed, kept, 'the manifest is whole');
    t.ok(said.checks.length >= 7 && said.checks.every((line) => line.endsWith(': OK')), said.checks.join('; '));
    const config = await readFile(join(a.lxcPath, name, 'config'), 'utf8');
    t.ok(said.text.trimEnd().endsWith(config.trimEnd()), 'its configuration is shown');
    t.same(differences(await snapshotOf(root), await snapshotOf(join(into, 'rootfs'))), [], 'the root');
    t.same(differences(await snapshotOf(data), await snapshotOf(join(into, 'data'))), [], 'the volume');
    const [conf, wanted] = [await snapshotOf(join(into, 'etc-app.conf')), await snapshotOf(dirname(file))];
    t.same(differences(only(wanted, basename(file)), only(conf, basename(file))), [], 'the single file');
    const older = await scratch(t);
    await typed(recordOf(name), first, older);
    for (const source of ['rootfs', 'data'] as const)
      t.same(differences(before[source], await snapshotOf(join(older, source))), [], `the older run's ${source}`);
  });
}

t.test('the checks of the page find a changed byte', async (t) => {
  const [run = ''] = list(await a.service.call('GET', '/backup/1/runs')).map((one) => String(part(one, 'run')));
  const record = recordOf('plain');
  for (const file of ['image.tar', `${run}/data.1.tar`]) {
    const back = await flippedByte(join(record, file));
    const { checks } = await typed(record, run, await scratch(t));
    t.same(
      checks.filter((line) => !line.endsWith(': OK')),
      [`${file}: FAILED`],
      file,
    );
    await back();
  }
  const back = await flippedByte(join(record, run, 'manifest.json'), 0.3);
  const [computed, kept] = manifestHashes(await typed(record, run, await scratch(t)));
  t.match(kept, /^[0-9a-f]{64}$/);
  t.not(computed, kept, 'the manifest');
  await back();
});

t.test('Docker: an image, a layer and a volume are restored by hand', async (t) => {
  await dockerd.sampleImage('hand:1');
  const HostConfig = { NetworkMode: 'none', Binds: ['byhand:/data'] };
  await dockerd.run('hand', { Image: 'hand:1', Cmd: ['/bin/sh', '-c', 'while :; do sleep 1; done'], HostConfig });
  const inspect = async (name: string) => fields(await dockerd.client.json('GET', `/containers/${name}/json`));
  const upper = async (name: string) => text(fields(fields((await inspect(name)).GraphDriver).Data).UpperDir);
  const data = join(dockerd.folder, 'd/volumes/byhand/_data');
  await makeNastyTree(join(data, 'nasty'));
  await dockerd.exec('hand', 'rm /seed/file; mkdir /new; echo x > /new/file; chmod 4711 /new/file');
  await settle();
  const body = { job_name: 'hand', container_id: 'hand', type: 'docker', features: ['pause', 'compress'], dest };
  const { id } = await backedUp(a.service, body);
  await changeTree(join(data, 'nasty'));
  const run = await ranAgain(a.service, id);
  t.match(await levels(id, run, 'byhand'), [0, 1, 2]);
  const into = await scratch(t);
  const said = await typed(recordOf('hand'), run, into);
  t.equal(manifestHashes(said)[0], manifestHashes(said)[1]);
  t.ok(said.checks.length >= 6 && said.checks.every((line) => line.endsWith(': OK')), said.checks.join('; '));
  t.match(
    JSON.parse(said.text.slice(said.text.indexOf('\n[{') + 1)),
    [{ Name: '/hand', Config: { Image: 'hand:1' } }, { Name: 'byhand' }],
    'its settings are shown',
  );
  // overlayfs uses one whiteout inode for all deleted files of a layer
  const asAlone = (tree: ReadonlyMap<string, Snapshot>) => new Map([...tree].map(([path, one]) => [path, { ...one, links: '' }]));
  const layer = asAlone(await snapshotOf(await upper('hand')));
  t.equal(layer.get('seed/file')?.type, 'character device', 'what was deleted stands in the layer');
  t.same(differences(layer, asAlone(await snapshotOf(join(into, 'rootfs')))), [], 'the layer');
  t.same(differences(await snapshotOf(data), await snapshotOf(join(into, 'byhand'))), [], 'the volume');

  const image = text((await inspect('hand')).Image);
  await dockerd.removeContainer('hand');
  await dockerd.client.json('DELETE', `/images/${image}?force=1`);
  const shell = (command: string) =>
    childOutput('sh', ['-c', command.replaceAll('docker', `docker -H unix://${dockerd.socket}`)], { cwd: recordOf('hand') });
  const archives = list(part(await a.service.call('GET', `/backup/${id}/runs/${run}`), 'archives'));
  const packed = archives.find((one) => part(one, 'source') === '@image');
  await shell(`zstd -dc '${part(packed, 'path')}' | docker load`);
  await shell("docker create --name again --network none hand:1 /bin/sh -c 'while :; do sleep 1; done'");
  t.equal(text((await inspect('again')).Image), image, 'the image is the one that it was');
  await childOutput('cp', ['-a', `${join(into, 'rootfs')}/.`, await upper('again')]);
  await shell('docker start again');
  await dockerd.exec('again', 'test ! -e /seed/file && test -u /new/file && test "$(busybox cat /new/file)" = x');
  t.pass('the container that was made by hand runs with what it had');
});
