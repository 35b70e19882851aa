/** An undo takes away what its restore made, but for what another container has by now, or what is mounted in it since. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { rejectsWith, save } from '../conformance/runtime/index.js';
import type { Mounts } from '../system/household/bed.js';
import { folderAt, makeEngines, restore } from './engines-bed.js';

const engines = await makeEngines(t);
const { top, lxcPath, dockerd, told } = engines;
const folder = (...path: readonly string[]) => folderAt(top, ...path);

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

  t.test(`${kind}: an undo leaves folders that the restore made and another container mounts by now`, async (t) => {
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
        told.some((line) => line.includes(`leaves ${one},`) && line.includes(`other-${kind}`)),
        'and it is told',
      );
    await engine.lose(`other-${kind}`);
  });

  t.test(`${kind}: an undo is refused while a file system is mounted in a restored place`, async (t) => {
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

t.test('lxc: an undo that would remove the container is refused while another one mounts its folder', async (t) => {
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

t.test('docker: an undo leaves the folder of a new volume while another container uses the volume', async (t) => {
  const { runtime, make, lose } = engines.docker;
  const [kept, device] = [await folder('device/kept'), await folder('device/goal')];
  const options = { Name: 'led', DriverOpts: { type: 'none', o: 'bind', device } };
  await dockerd.client.json('POST', '/volumes/create', { body: options });
  await make('led-owner', { '/kept': kept, '/led': 'led' });
  const saved = await save(t, runtime, 'led-owner');
  await lose('led-owner');
  await dockerd.client.json('DELETE', '/volumes/led?force=1');
  await rm(device, { recursive: true });
  const id = await restore(runtime, saved);
  await make('led-other', { '/led': 'led' });
  await runtime.undo(id);
  t.equal(await readFile(join(device, 'file'), 'utf8'), 'of the run');
  await lose('led-other');
});
