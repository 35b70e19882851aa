/** One folder mounted twice, folders in folders, single files, missing parent folders, and configurations that cannot be loaded. */
import { chmod, chown, mkdir, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { startLxc } from '../../support/lxc.js';
import { Household, kinds, textOf } from '../household/bed.js';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');

const household = async (t: Test, hours = '0') =>
  new Household(t, await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', hours] }), docker);

/** Everything below a folder, except the product's own files. */
const namesIn = async (folder: string) =>
  (await readdir(folder, { recursive: true })).filter((name) => !name.includes('.container-backup-')).sort();

t.test('a folder that is mounted twice is stored once, and is restored in place, after a loss and as a clone', async (t) => {
  const h = await household(t);
  const media = await h.folder('m');
  await writeFile(join(media, 'film'), 'of the run');
  await h.container('docker', 'twice', { '/tv': media, '/movies': `${media}:ro`.replace(':ro', '') });
  const run = await h.backUp('docker', 'twice');
  const sources = part(await h.a.service.call('GET', `/backup/1/runs/${run}`), 'sources');
  t.equal(Array.isArray(sources) && sources.length, 2, 'the root and one folder');
  await writeFile(join(media, 'film'), 'later');
  await h.restore('docker', 'twice');
  t.equal(await textOf(media, 'film'), 'of the run');
  await h.lose('docker', 'twice');
  await rm(media, { recursive: true });
  await h.restore('docker', 'twice');
  t.equal(await textOf(media, 'film'), 'of the run');
  await h.restore('docker', 'twice', 'twin');
  const copy = `${media}.twin`;
  t.equal(await textOf(copy, 'film'), 'of the run');
  const mounts = part(await docker.client.json('GET', '/containers/twin/json'), 'Mounts');
  t.same(
    (Array.isArray(mounts) ? mounts : []).map((one) => part(one, 'Source')),
    [copy, copy],
    'both of its places are its copy',
  );
});

for (const kind of kinds) {
  t.test(`${kind}: a folder inside another is stored once, and both are restored`, async (t) => {
    const h = await household(t);
    const outer = await h.folder('p');
    const inner = await h.folder('p/deep/data');
    await writeFile(join(outer, 'app'), 'of the run');
    await writeFile(join(inner, 'row'), 'of the run');
    const name = `nested-${kind}`;
    await h.container(kind, name, { '/app': outer, '/data': inner });
    await h.backUp(kind, name);
    const expected = await namesIn(outer);
    for (const loss of ['changed', 'lost'] as const) {
      if (loss === 'lost') {
        await h.lose(kind, name);
        await rm(outer, { recursive: true });
      } else for (const file of [join(outer, 'app'), join(inner, 'row')]) await writeFile(file, 'later');
      await h.restore(kind, name);
      t.same([await textOf(outer, 'app'), await textOf(inner, 'row')], ['of the run', 'of the run'], loss);
      t.same(await namesIn(outer), expected);
    }
    await h.restore(kind, name, `${name}-clone`);
    t.equal(await textOf(`${outer}.${name}-clone`, 'deep/data/row'), 'of the run', 'the inner one of a clone lies in its outer one');
    t.same(await namesIn(outer), expected, 'and nothing of it in the original');
  });

  t.test(`${kind}: missing parent folders are restored as they were, and existing ones do not change`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('above/between/data');
    await chmod(join(h.a.folder, 'above'), 0o751);
    await chown(join(h.a.folder, 'above/between'), 1234, 4321);
    const name = `parents-${kind}`;
    await writeFile(join(folder, 'file'), 'x');
    await h.container(kind, name, { '/data': folder });
    await h.backUp(kind, name);
    await h.lose(kind, name);
    await rm(join(h.a.folder, 'above'), { recursive: true });
    await h.restore(kind, name);
    t.equal((await stat(join(h.a.folder, 'above'))).mode & 0o7777, 0o751);
    const { uid, gid } = await stat(join(h.a.folder, 'above/between'));
    t.same([uid, gid], [1234, 4321]);
    await chmod(join(h.a.folder, 'above'), 0o700);
    await h.restore(kind, name);
    t.equal((await stat(join(h.a.folder, 'above'))).mode & 0o7777, 0o700);
  });
}

for (const kind of kinds) {
  t.test(`${kind}: a clone does not take the missing folder of the original, even through a link`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('linked/sub');
    await writeFile(join(folder, 'file'), 'of the run');
    const link = join(h.a.folder, 'link');
    await symlink('linked', link);
    const [name, clone] = [`linked-${kind}`, `linked-${kind}-twin`];
    await h.container(kind, name, { '/data': join(link, 'sub') });
    await h.backUp(kind, name);
    await h.stop(kind, name);
    await rm(folder, { recursive: true });
    const { state } = await h.restore(kind, name, clone);
    const copy = join(link, `sub.${clone}`);
    t.match(state.places, [{}, { action: 'copy', after: copy }]);
    t.same([await textOf(copy, 'file'), await readdir(join(h.a.folder, 'linked'))], ['of the run', [`sub.${clone}`]]);
  });
}

t.test('a configuration that LXC cannot load is a conflict of the plan, and a restore changes nothing', async (t) => {
  const h = await household(t, '1');
  const include = join(await h.folder('conf'), 'p.conf');
  await writeFile(include, 'lxc.environment = A=1\n');
  await h.a.lxc('includes', { stopped: true, lines: [`lxc.include = ${include}`] });
  await startLxc(h.a.lxcPath, 'includes');
  await h.a.lxc('innocent');
  for (const name of ['includes', 'innocent']) await h.backUp('lxc', name);
  await rename(include, `${include}-away`);
  await mkdir(join(h.a.folder, 'conf/other'));
  // the owner has repaired the configuration of the running container, so it loads
  const config = join(h.a.lxcPath, 'includes/config');
  await writeFile(config, (await textOf(config)).replace(/^lxc\.include = \S*p\.conf$/m, ''));
  const file = join(h.a.lxcPath, 'includes/volumes/data/file');
  await writeFile(file, 'later');
  t.match(part(await h.plan('lxc', 'includes'), 'conflicts'), [{ code: 'config_unloadable', what: /p\.conf/ }]);
  t.match(await h.refused('lxc', 'includes'), { result: -1, error: { code: 'conflict', message: /p\.conf/ } });
  t.equal(await textOf(file), 'later', 'nothing is touched');
  t.same(
    (await namesIn(h.a.lxcPath)).filter((name) => name.includes('container-backup')),
    [],
    'nothing is left',
  );
  await h.restore('lxc', 'innocent');
  const all = await h.a.service.call('GET', '/container/?type=lxc');
  t.match(all, [
    { id: 'includes', state: 'running' },
    { id: 'innocent', state: 'running' },
  ]);
  await rename(`${include}-away`, include);
  await h.restore('lxc', 'includes');
  t.not(await textOf(file), 'later', 'with the file it comes back');
});
