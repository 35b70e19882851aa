/** An undo takes away what its restore made, but for what another container has by now, or what is mounted in it since. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import dockerPlugin from '../../plugins/runtimes/docker/index.js';
import lxcPlugin from '../../plugins/runtimes/lxc/index.js';
import { childOutput } from '../../plugins/shared/child.js';
import { fill, planOf, rejectsWith, type Saved, save } from '../conformance/runtime/index.js';
import { ownDockerd } from '../support/appliance.js';
import { destroyLxc, makeLxcContainer, makeLxcPath } from '../support/lxc.js';
import type { Mounts } from '../system/household-bed.js';

const { signal } = new AbortController();
const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');
const lxcPath = await makeLxcPath();
const top = await mkdtemp(join(tmpdir(), 'undo-users-'));
t.teardown(async () => {
  for (const name of await readdir(lxcPath)) await destroyLxc(lxcPath, name);
  for (const path of [lxcPath, top]) await rm(path, { recursive: true, force: true });
});

interface Engine {
  readonly runtime: Runtime;
  /** What it told. */
  readonly told: readonly string[];
  /** Makes a container, stopped. */
  make(name: string, mounts: Mounts): Promise<void>;
  lose(name: string): Promise<void>;
}

const told: string[] = [];
const log = (_level: string, message: string) => void told.push(message);
const stateFolder = await mkdtemp(join(top, 'state-'));

const engines: Readonly<Record<'docker' | 'lxc', Engine>> = {
  docker: {
    runtime: await dockerPlugin.open({ log, signal, stateFolder, options: { socket: docker.socket } }),
    told,
    async make(name, mounts) {
      const Binds = Object.entries(mounts).map(([at, from]) => `${from}:${at}`);
      const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], HostConfig: { NetworkMode: 'none', Binds } };
      await docker.client.json('POST', `/containers/create?name=${name}`, { body });
    },
    lose: (name) => docker.client.json('DELETE', `/containers/${name}?force=1`).then(() => undefined),
  },
  lxc: {
    runtime: await lxcPlugin.open({ log, signal, stateFolder: lxcPath, options: { path: lxcPath } }),
    told,
    make: (name, mounts) =>
      makeLxcContainer(lxcPath, name, {
        lines: Object.entries(mounts).map(([at, from]) => `lxc.mount.entry = ${from} ${at.slice(1)} none bind,create=dir 0 0`),
      }),
    lose: (name) => destroyLxc(lxcPath, name),
  },
};

/** A folder of the host with a file. */
async function folder(...path: readonly string[]): Promise<string> {
  const full = join(top, ...path);
  await mkdir(full, { recursive: true });
  await writeFile(join(full, 'file'), 'of the run');
  return full;
}

/** Restores it as a container that is gone. @returns the id of its undo */
async function restore(runtime: Runtime, saved: Saved): Promise<string> {
  const { name } = saved.description;
  const draft = await runtime.draft({ ...planOf(saved, name, 'create'), undoUntil: Date.now() + 3_600_000 }, { signal });
  try {
    await fill(draft, saved);
    return (await draft.commit()).undo ?? '';
  } finally {
    await draft.discard();
  }
}

for (const kind of ['docker', 'lxc'] as const) {
  const engine = engines[kind];
  const { runtime } = engine;
  /** A container that is lost with some of its folders, and restored. The first folder stays, so that there is an undo. */
  const restored = async (t: Test, name: string, mounts: Mounts) => {
    await engine.make(name, mounts);
    const saved = await save(t, runtime, name);
    await engine.lose(name);
    for (const path of Object.values(mounts).slice(1)) await rm(path, { recursive: true, force: true });
    return restore(runtime, saved);
  };

  t.test(`${kind}: folders that a restore made stay in its undo where another container has them by now`, async (t) => {
    const name = `owner-${kind}`;
    const all = { kept: '', itself: '', below: '', above: '', alone: '' };
    for (const one of ['kept', 'itself', 'below', 'above/inner', 'alone'] as const)
      all[one === 'above/inner' ? 'above' : one] = await folder(kind, one);
    const places = Object.entries(all).map(([one, path]) => [`/${one}`, path] as const);
    const id = await restored(t, name, Object.fromEntries(places));
    await folder(kind, 'below/deeper');
    await writeFile(join(all.itself, 'more'), 'of the other one');
    const others = { '/one': all.itself, '/two': join(all.below, 'deeper'), '/three': join(top, kind, 'above') };
    await engine.make(`other-${kind}`, others);
    await runtime.undo(id);
    t.same((await readdir(all.itself)).sort(), ['file', 'more'], 'itself');
    t.equal(await readFile(join(all.below, 'file'), 'utf8'), 'of the run', 'one in it');
    t.equal(await readFile(join(all.above, 'file'), 'utf8'), 'of the run', 'one above it');
    t.same((await readdir(join(top, kind))).sort(), ['above', 'below', 'itself', 'kept'], 'what nobody has is gone, and nothing is left');
    for (const one of [all.itself, all.below, all.above])
      t.ok(
        engine.told.some((line) => line.includes(`leaves ${one},`) && line.includes(`other-${kind}`)),
        'and it is told',
      );
    await engine.lose(`other-${kind}`);
  });

  t.test(`${kind}: an undo is refused while a file system is mounted in what its restore made or brought`, async (t) => {
    const [kept, anew] = [await folder(kind, 'mount/kept'), await folder(kind, 'mount/anew')];
    for (const one of [kept, anew]) await mkdir(join(one, 'sub/disk'), { recursive: true });
    const id = await restored(t, `mounted-${kind}`, { '/kept': kept, '/anew': anew });
    await writeFile(join(kept, 'file'), 'changed since');
    for (const one of [kept, anew]) {
      const disk = join(one, 'sub/disk');
      await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', disk]);
      await writeFile(join(disk, 'film'), 'on the disk');
      await rejectsWith(t, 'in_use', runtime.undo(id));
      t.equal(await readFile(join(disk, 'film'), 'utf8'), 'on the disk', 'it is where it was');
      t.equal(await readFile(join(kept, 'file'), 'utf8'), 'changed since', 'and nothing else is touched');
      await childOutput('umount', [disk]);
    }
    await runtime.undo(id);
    t.same(await readdir(join(top, kind, 'mount')), ['kept'], 'unmounted, it goes');
  });
}

t.test('lxc: an undo that would remove its container is refused while another one has a folder of that', async (t) => {
  const { runtime, make, lose } = engines.lxc;
  const kept = await folder('own/kept');
  await make('whole', { '/kept': kept });
  const saved = await save(t, runtime, 'whole');
  await lose('whole');
  const id = await restore(runtime, saved);
  const data = join(lxcPath, 'whole/volumes/data');
  await make('guest', { '/guest': data });
  await rejectsWith(t, 'in_use', runtime.undo(id));
  t.equal(await readFile(join(data, 'file'), 'utf8'), 'data of whole\n');
  await lose('guest');
  await runtime.undo(id);
  t.notOk((await readdir(lxcPath)).includes('whole'));
});

t.test('docker: the folder of a volume that a restore made stays in its undo while another container has the volume', async (t) => {
  const { runtime, make, lose } = engines.docker;
  const [kept, device] = [await folder('device/kept'), await folder('device/goal')];
  const options = { Name: 'led', DriverOpts: { type: 'none', o: 'bind', device } };
  await docker.client.json('POST', '/volumes/create', { body: options });
  await make('led-owner', { '/kept': kept, '/led': 'led' });
  const saved = await save(t, runtime, 'led-owner');
  await lose('led-owner');
  await docker.client.json('DELETE', '/volumes/led?force=1');
  await rm(device, { recursive: true });
  const id = await restore(runtime, saved);
  await make('led-other', { '/led': 'led' });
  await runtime.undo(id);
  t.equal(await readFile(join(device, 'file'), 'utf8'), 'of the run');
  await lose('led-other');
});
