/** Excluded files stay as they are in a restore in place and in its undo. None is emptied, moved or deleted. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { part } from '../../support/api-client.js';
import { type Appliance, makeAppliance, ownDockerd } from '../../support/appliance.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { destroyLxc } from '../../support/lxc.js';
import { backUp, makeJob } from '../fidelity/bench.js';
import { Household, type Kind, sourceOf } from '../household/bed.js';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');

/** Files by their paths in a folder, each with its path as its content. */
async function files(folder: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), path);
  }
}

/** The files that an undo of a mount point keeps lie hidden in it. */
const keptForUndo = /^"\.container-backup-[0-9a-f]{12}-[0-9]+["/]/;

async function restoreInPlace(a: Appliance, type: Kind, name: string): Promise<number> {
  const src = { target: 'local', path: '/test/backups', portfolio: name };
  const id = await a.service.create('restore', { job_name: 'back', container_id: name, type, src });
  await a.service.ended('restore', id);
  return id;
}

interface Subject {
  readonly a: Appliance;
  readonly name: string;
  readonly media: string;
  readonly app: string;
}

/** A container whose media folder, a share of the appliance, is excluded as a whole, and whose app folder in part. */
async function subject(t: Test, type: Kind, mount: boolean): Promise<Subject> {
  const top = await mkdtemp(join(tmpdir(), 'excluded-'));
  const [media, app] = [join(top, 'media'), join(top, 'app')];
  for (const folder of [media, app]) await mkdir(folder);
  if (mount) for (const folder of [media, app]) await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'none', folder]);
  t.teardown(async () => {
    if (mount) for (const folder of [media, app]) await childOutput('umount', ['-l', folder]);
    await rm(top, { recursive: true, force: true });
  });
  const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '1', '--share', `media=${media}`] });
  const name = `${mount ? 'mounted' : 'plain'}-${type}`;
  await files(media, ['films/one', 'films/two', 'music/song']);
  await files(app, ['config', 'cache/a.tmp', 'cache/deep/b.tmp', 'cache/kept', 'logs/app.log']);
  await new Household(t, a, docker).container(type, name, { '/media': media, '/app': app });
  const exclude = [
    `${sourceOf(type, '/media', media)}:*`,
    `${sourceOf(type, '/app', app)}:/cache/*.tmp`,
    `${sourceOf(type, '/app', app)}:/logs`,
  ];
  await backUp(a.service, await makeJob(a.service, { name, container: name, type, exclude, features: ['pause'] }));
  return { a, name, media, app };
}

for (const type of ['lxc', 'docker'] as const) {
  for (const mount of [false, true]) {
    t.test(
      `${type}: excluded files ${mount ? 'in folders that are mount points' : 'in plain folders'} survive restores and an undo`,
      async (t) => {
        const { a, name, media, app } = await subject(t, type, mount);
        await writeFile(join(app, 'config'), 'changed');
        await writeFile(join(app, 'cache/a.tmp'), 'later');
        await files(app, ['logs/second.log', 'made-later']);
        const before = { media: await snapshotOf(media), app: await snapshotOf(app) };
        for (const round of [1, 2]) {
          await restoreInPlace(a, type, name);
          const found = differences(before.media, await snapshotOf(media)).filter(
            (line) => !line.startsWith('"": mtime') && !keptForUndo.test(line),
          );
          t.same(found, [], `restore ${round}: the excluded folder is as it was, its marker too`);
          t.equal(await readFile(join(app, 'config'), 'utf8'), 'config', 'what the run holds is back');
          t.equal(await readFile(join(app, 'cache/kept'), 'utf8'), 'cache/kept');
          t.equal(await readFile(join(app, 'cache/a.tmp'), 'utf8'), 'later', 'what it does not hold is as it was');
          t.same((await readdir(join(app, 'cache'))).sort(), ['a.tmp', 'deep', 'kept']);
          t.same(await readdir(join(app, 'cache/deep')), ['b.tmp']);
          t.same((await readdir(join(app, 'logs'))).sort(), ['app.log', 'second.log']);
          t.notOk((await readdir(app)).includes('made-later'), 'what was made since, and is not excluded, is gone');
        }
        t.match(await a.service.call('GET', '/target/local/dirs/media'), [{ name: 'films' }, { name: 'music' }], 'the share is still one');
        await writeFile(join(app, 'config'), 'before the undone restore');
        const id = await restoreInPlace(a, type, name);
        await files(media, ['films/three']);
        await files(app, ['logs/third.log', 'cache/new/c.tmp']);
        await a.service.call('PUT', `/restore/${id}/undo`);
        t.equal(await readFile(join(app, 'config'), 'utf8'), 'before the undone restore', 'the undo brings back what was there');
        t.same((await readdir(join(media, 'films'))).sort(), ['one', 'three', 'two'], 'and loses nothing that came into what is excluded');
        t.same((await readdir(join(app, 'logs'))).sort(), ['app.log', 'second.log', 'third.log']);
        t.equal(await readFile(join(app, 'cache/new/c.tmp'), 'utf8'), 'cache/new/c.tmp');
        const strange = (await readdir(join(media, '..'))).filter((one) => one !== 'media' && one !== 'app');
        t.same(strange, [], 'nothing is left beside the folders');
      },
    );
  }
}

for (const type of ['lxc', 'docker'] as const) {
  t.test(`${type}: the undo of a recreated folder keeps newer files in its excluded part`, async (t) => {
    const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '1'] });
    const [media, app] = [join(a.folder, 'media'), join(a.folder, 'app')];
    await files(media, ['song']);
    await files(app, ['config', 'cache/old']);
    const name = `anew-${type}`;
    await new Household(t, a, docker).container(type, name, { '/media': media, '/app': app });
    const exclude = [`${sourceOf(type, '/app', app)}:/cache`];
    await backUp(a.service, await makeJob(a.service, { name, container: name, type, exclude }));
    await (type === 'lxc' ? destroyLxc(a.lxcPath, name) : docker.removeContainer(name));
    await rm(app, { recursive: true });
    const id = await restoreInPlace(a, type, name);
    t.same(await readdir(app), ['config'], 'the folder is made anew');
    await files(app, ['cache/later']);
    await a.service.call('PUT', `/restore/${id}/undo`);
    t.same(
      (await readdir(app, { recursive: true })).sort(),
      ['cache', 'cache/later'],
      'nothing of the restore is left, and nothing else is lost',
    );
    t.same(await readdir(media), ['song']);
  });
}

t.test('docker: the undo of a recreated volume keeps files outside the run, and volumes that another container has by now', async (t) => {
  const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '1'] });
  const folder = join(a.folder, 'folder');
  await files(folder, ['song']);
  const container = (name: string, volumes: readonly string[]) => {
    const Binds = [`${folder}:/folder`, ...volumes.map((one) => `${one}:/${one}`)];
    const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], HostConfig: { NetworkMode: 'none', Binds } };
    return docker.client.json('POST', `/containers/create?name=${name}`, { body });
  };
  const pathOf = async (volume: string) => String(part(await docker.client.json('GET', `/volumes/${volume}`), 'Mountpoint'));
  await container('owner', ['alone', 'shared']);
  await files(await pathOf('alone'), ['config', 'cache/old']);
  await files(await pathOf('shared'), ['common']);
  await backUp(a.service, await makeJob(a.service, { name: 'owner', container: 'owner', type: 'docker', exclude: ['alone:/cache'] }));
  await docker.removeContainer('owner');
  const id = await restoreInPlace(a, 'docker', 'owner');
  await files(await pathOf('alone'), ['cache/later']);
  await container('other', ['shared']);
  await a.service.call('PUT', `/restore/${id}/undo`);
  t.same((await readdir(await pathOf('alone'), { recursive: true })).sort(), ['cache', 'cache/later']);
  t.same(await readdir(await pathOf('shared')), ['common'], 'the other container has it');
  await docker.removeContainer('other');
});

for (const type of ['lxc', 'docker'] as const) {
  t.test(`${type}: a running container is not replaced while a folder outside the run is missing`, async (t) => {
    const a = await makeAppliance(t, { dockerd: docker });
    const [media, app] = [join(a.folder, 'media'), join(a.folder, 'app')];
    for (const folder of [media, app]) await files(folder, ['file']);
    const name = `goes-on-${type}`;
    await new Household(t, a, docker).container(type, name, { '/media': media, '/app': app });
    const exclude = [`volume:${sourceOf(type, '/media', media)}`];
    await backUp(a.service, await makeJob(a.service, { name, container: name, type, exclude }));
    await rm(media, { recursive: true });
    await writeFile(join(app, 'file'), 'changed');
    const src = { target: 'local', path: '/test/backups', portfolio: name };
    const id = await a.service.create('restore', { job_name: 'back', container_id: name, type, src });
    const error = { code: 'conflict', message: new RegExp(media) };
    t.match(await a.service.settled('restore', id), { result: -1, error }, 'the folder is named');
    const states = await a.service.call('GET', `/container/?type=${type}`);
    const running = (Array.isArray(states) ? states : []).filter((one) => part(one, 'state') === 'running').map((one) => part(one, 'id'));
    t.ok(running.includes(name), 'it runs on');
    t.equal(await readFile(join(app, 'file'), 'utf8'), 'changed', 'and nothing is touched');
  });
}
