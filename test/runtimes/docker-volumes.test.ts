import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { test } from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import { selectSources } from '../../core/jobs/run/selection.js';
import { type Fields, fields, text } from '../../plugins/runtimes/docker/engine/json.js';
import plugin from '../../plugins/runtimes/docker/index.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { fill, planOf, rejectsWith, type Saved, save, stateOf } from '../conformance/runtime/index.js';
import { conflictsOf } from '../conformance/runtime/preview.js';
import { startDockerd } from '../support/servers/dockerd.js';

const { signal } = new AbortController();
const docker = await startDockerd();
await docker.sampleImage('sample:1');
const stateFolder = await mkdtemp(`${docker.folder}/state-`);
const runtime: Runtime = await plugin.open({ log: () => undefined, signal, stateFolder, options: { socket: docker.socket } });
const of = (name: string) => `${docker.folder}/${name}`;
const call = (method: 'GET' | 'POST' | 'DELETE', path: string, body?: Fields) => docker.client.json(method, path, body && { body });

const base = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL' };
const run = (name: string, Binds: readonly string[]) => docker.run(name, { ...base, HostConfig: { NetworkMode: 'none', Binds } });
const stop = (name: string) => call('POST', `/containers/${name}/stop?t=0`);

const Labels = { mine: 'data' };
const makeVolume = (Name: string, DriverOpts: Fields) => call('POST', '/volumes/create', { Name, DriverOpts, Labels });
const bindOf = (device: string) => ({ type: 'none', o: 'bind', device });

async function volumeOf(name: string): Promise<object | undefined> {
  const found = await call('GET', `/volumes/${name}`).catch(() => undefined);
  return found === undefined ? undefined : { Options: fields(found).Options, Labels: fields(found).Labels };
}

/** The volume that a container has at a path, and what a file in it says. */
async function mountedAt(name: string, destination: string): Promise<string> {
  const mounts = fields(await call('GET', `/containers/${name}/json`)).Mounts;
  const found = (Array.isArray(mounts) ? mounts : []).map(fields).find(({ Destination }) => Destination === destination);
  return text(found?.Name);
}

async function restored(saved: Saved, name: string, action: 'create' | 'replace', end: 'commit' | 'discard' = 'commit') {
  const draft = await runtime.draft(planOf(saved, name, action), { signal });
  try {
    await fill(draft, saved);
    if (end === 'commit') t0(await draft.commit());
  } finally {
    await draft.discard();
  }
}
const t0 = ({ conflicts }: { readonly conflicts: readonly unknown[] }) => {
  if (conflicts.length > 0) throw new Error(JSON.stringify(conflicts));
};

test('a volume that leads to a folder is read and replaced there, whether its container runs or not', async (t) => {
  const device = of('nas/app');
  await mkdir(device, { recursive: true });
  await writeFile(`${device}/file`, 'content');
  await makeVolume('bv', bindOf(device));
  await run('bound', ['bv:/data']);
  const before = await volumeOf('bv');
  for (const state of ['running', 'stopped'] as const) {
    if (state === 'stopped') await stop('bound');
    const source = (await runtime.sources('bound')).find(({ name }) => name === 'bv');
    t.match(source, { origin: 'new', path: device, kind: 'folder' }, state);
    const saved = await save(t, runtime, 'bound');
    t.match(saved.description.volume, [{ name: 'bv', origin: 'new', path: device, mountpoint: '/data' }]);
    await writeFile(`${device}/file`, 'later');
    await writeFile(`${device}/more`, 'later');
    t.strictSame(await conflictsOf(runtime, planOf(saved, 'bound', 'replace')), []);
    await restored(saved, 'bound', 'replace', 'discard');
    t.strictSame((await readdir(device)).sort(), ['file', 'more'], 'a discard leaves it alone');
    await restored(saved, 'bound', 'replace');
    t.strictSame([await readdir(device), await readFile(`${device}/file`, 'utf8')], [['file'], 'content']);
    t.equal(await stateOf(runtime, 'bound'), state);
    t.strictSame(await volumeOf('bv'), before);
    t.strictSame(await readdir(of('nas')), ['app'], 'nothing is left beside it');
  }
  await call('POST', '/containers/bound/start');
  await docker.exec('bound', 'read x < /data/file || [ "$x" = content ]');
  await docker.removeContainer('bound');
});

test('it comes back with its driver, options and labels, and a clone has a plain volume', async (t) => {
  const device = of('disk/of/app');
  await mkdir(device, { recursive: true });
  await writeFile(`${device}/own`, 'content');
  await makeVolume('kept', bindOf(device));
  await run('back', ['kept:/seed']); // where the image has files, which the engine copies into an empty volume
  const before = await volumeOf('kept');
  const saved = await save(t, runtime, 'back');

  await restored(saved, 'copy', 'create');
  const copied = await mountedAt('copy', '/seed');
  t.equal(copied, 'kept-copy');
  t.match(await volumeOf(copied), { Options: null, Labels }, 'a copy has a plain volume: never two containers on one folder');
  await docker.exec('copy', 'echo changed > /seed/own');
  t.equal(await readFile(`${device}/own`, 'utf8'), 'content');
  for (const name of ['copy', 'back']) await docker.removeContainer(name);

  for (const state of ['gone', 'empty', 'full'] as const) {
    await rm(of('disk'), { recursive: true });
    if (state !== 'gone') await mkdir(device, { recursive: true });
    if (state === 'full') await writeFile(`${device}/later`, 'later');
    const found = await readdir(device).catch(() => 'gone');
    t.strictSame(await conflictsOf(runtime, planOf(saved, 'back', 'create')), []);
    await restored(saved, 'back', 'create', 'discard');
    t.equal(await volumeOf('kept'), undefined);
    t.strictSame(
      [
        await readdir(device).catch(() => 'gone'),
        await readdir(of('disk')).then(
          () => true,
          () => false,
        ),
      ],
      [found, state !== 'gone'],
      'a discard leaves no trace',
    );
    await restored(saved, 'back', 'create');
    t.strictSame(await volumeOf('kept'), before, state);
    t.strictSame(
      [await readdir(device), await readFile(`${device}/own`, 'utf8')],
      [['own'], 'content'],
      'in the folder, and nothing of the image',
    );
    t.strictSame(await readdir(of('disk/of')), ['app']);
    await docker.exec('back', '[ -e /seed/own ]');
    await docker.removeContainer('back');
  }
});

test('a volume in memory is left out and told', async (t) => {
  await makeVolume('memory', { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' });
  await run('forgetful', ['memory:/data']);
  const before = await volumeOf('memory');
  const saved = await save(t, runtime, 'forgetful');
  t.strictSame(
    saved.sources.map(({ name }) => name),
    ['rootfs'],
  );
  t.match(saved.description.left_out, [{ reason: 'a tmpfs volume stores nothing' }]);
  await docker.removeContainer('forgetful');
  await restored(saved, 'forgetful', 'create');
  t.strictSame(await volumeOf('memory'), before);
  await docker.removeContainer('forgetful');
});

test('a volume on a server is read while its container runs, and fails the run otherwise; a restore never fills it', async (t) => {
  const image = of('image.ext4');
  await childOutput('truncate', ['-s', '8M', image]);
  await childOutput('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
  const loop = (await childOutput('losetup', ['--find', '--show', image])).trim();
  t.teardown(() => childOutput('losetup', ['--detach', loop]));
  await makeVolume('far', { type: 'ext4', device: loop }); // a disk: mounted and unmounted as an nfs volume is
  const before = await volumeOf('far');
  await run('away', ['far:/data', 'near:/data/near']);
  await docker.exec('away', 'echo content > /data/file; echo near > /data/near/file');
  const saved = await save(t, runtime, 'away');
  t.strictSame(saved.sources.map(({ name }) => name).sort(), ['far', 'near', 'rootfs']);
  const listed = await childOutput('tar', ['-tf', `${saved.archives}/far.tar`]);
  t.ok(listed.includes('./file\n') && !listed.includes('near/file'), 'it holds its files, not those of what is mounted inside');

  const inPlace = planOf(saved, 'away', 'replace');
  t.match(await conflictsOf(runtime, inPlace), [{ code: 'volume_on_server', what: new RegExp(`^Volume far lies on ext4 ${loop}`) }]);
  await rejectsWith(t, 'unsupported', restored(saved, 'away', 'replace'));
  t.equal(await stateOf(runtime, 'away'), 'running');
  await docker.exec('away', '[ -e /data/file ]');
  await restored(saved, 'twin', 'create');
  const copied = await mountedAt('twin', '/data');
  t.match(await volumeOf(copied), { Options: null, Labels });
  await docker.exec('twin', '[ -e /data/file ] && [ -e /data/near/file ]');
  await docker.removeContainer('twin');

  await stop('away');
  const [sources, description] = [await runtime.sources('away'), await runtime.describe('away')];
  const refused = Promise.resolve().then(() => selectSources(description, sources, []));
  await rejectsWith(t, 'unavailable', refused);
  await t.rejects(refused, { message: /Volume far \(ext4 .*start it, or exclude volume:far/ });
  const without = selectSources(description, sources, ['volume:far']);
  t.strictSame(without.sources.map(({ name }) => name).sort(), ['near', 'rootfs']);

  const rest = { ...saved, sources: saved.sources.filter(({ name }) => name !== 'far') };
  await restored(rest, 'away', 'replace');
  t.strictSame(await volumeOf('far'), before, 'a run without it leaves it mounted as it is');
  await docker.removeContainer('away');
  t.match(await conflictsOf(runtime, planOf(saved, 'away', 'create')), [{ code: 'volume_moved' }]);
  await restored(rest, 'away', 'create');
  t.strictSame(await volumeOf('far'), before, 'and makes it anew as it was');
  await docker.exec('away', '[ -e /data/file ]');
  await docker.removeContainer('away');
});

test('the engine ends', async () => {
  await docker[Symbol.asyncDispose]();
});
