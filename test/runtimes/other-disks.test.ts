/** Folders on XFS and on btrfs, with a file system mounted inside, come back as on ext4: in a restore as in its undo. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { childOutput, childResult } from '../../plugins/shared/primitives/child.js';
import { save } from '../conformance/runtime/index.js';
import { differences, snapshotOf } from '../support/fidelity.js';
import { chattr, flagsIn } from '../support/inode-flags.js';
import { cutFileSystem } from '../support/power-cut.js';
import { folderAt, makeEngines, restore } from './engines-bed.js';

const engines = await makeEngines(t);

for (const disk of ['xfs', 'btrfs'] as const) {
  const folder = await mkdtemp(join(tmpdir(), `${disk}-`));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const { folder: top } = await cutFileSystem(t, folder, disk);

  for (const kind of ['docker', 'lxc'] as const) {
    t.test(`${kind}: a folder on ${disk} with a mount inside is restored, and the undo brings it back`, async (t) => {
      const { runtime, make } = engines[kind];
      const app = await folderAt(top, kind, 'app');
      const usb = join(app, 'usb');
      await mkdir(usb);
      await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', usb]);
      t.teardown(async () => {
        await childOutput('umount', ['-l', usb]);
        await childResult('chattr', ['-R', '-f', '-ia', app]);
      });
      await writeFile(join(usb, 'film'), 'on the stick');
      await writeFile(join(app, 'only-run'), 'of the run');
      await childOutput('setfacl', ['-m', 'u:4321:rwx,d:u:4321:rwx', app]);
      await make(`${kind}-${disk}`, { '/app': app });
      const saved = await save(t, runtime, `${kind}-${disk}`);
      for (const file of ['file', 'later']) await writeFile(join(app, file), 'later');
      await rm(join(app, 'only-run'));
      await childOutput('setfacl', ['-b', app]);
      await childOutput('setfattr', ['-n', 'user.later', '-v', 'yes', app]);
      await chattr('+i', join(app, 'later'));
      await chattr('+d', app); // C, no copy-on-write, is btrfs's alone
      const [before, flags] = [await snapshotOf(app), await flagsIn(app)];

      const id = await restore(runtime, saved, { action: 'replace' });
      t.equal(await readFile(join(app, 'file'), 'utf8'), 'of the run');
      const acl = (await childOutput('getfacl', ['-cn', app])).split('\n');
      for (const line of ['user:4321:rwx', 'default:user:4321:rwx']) t.ok(acl.includes(line), `with ${line}`);
      t.equal(await readFile(join(usb, 'film'), 'utf8'), 'on the stick');
      await runtime.undo(id);
      t.same(differences(before, await snapshotOf(app)), []);
      t.same(await flagsIn(app), flags, 'inode flags, too');
    });
  }
}
