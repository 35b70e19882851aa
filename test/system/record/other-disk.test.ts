/** Two disks that are mounted at one path in turn. Each run holds the mounted disk, even when names, inode numbers and times are equal. */
import { execFile } from 'node:child_process';
import { mkdir, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { backUp, makeJob, settle } from '../fidelity/bench.js';
import { Household, kinds, textOf } from '../household/bed.js';

const run = promisify(execFile);
const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');
const a = await makeAppliance(t, { dockerd: docker });
const makers = { ext4: ['mkfs.ext4', '-q', '-F'], xfs: ['mkfs.xfs', '-q'] } as const;

/** Makes the image of a disk with one film. */
async function filmDisk(type: keyof typeof makers, image: string, folder: string): Promise<{ readonly inode: number }> {
  await writeFile(image, '');
  await truncate(image, 320 << 20); // mkfs.xfs needs 300 MiB or more
  const [maker, ...flags] = makers[type];
  await run(maker, [...flags, image]);
  await run('mount', ['-o', 'loop', image, folder]);
  await mkdir(join(folder, 'films'));
  await writeFile(join(folder, 'films/one'), image);
  const { ino } = await stat(join(folder, 'films'));
  await run('umount', [folder]);
  return { inode: ino };
}

for (const type of ['ext4', 'xfs'] as const)
  for (const kind of kinds)
    t.test(`${type}, ${kind}: two disks in turn at one place each come back as they were`, async (t) => {
      const h = new Household(t, a, docker);
      const name = `disk-${type}-${kind}`;
      const folder = await h.folder(name);
      const images = ['first', 'second'].map((title) => join(a.folder, `${name}-${title}`));
      const inodes = new Set<number>();
      for (const image of images) inodes.add((await filmDisk(type, image, folder)).inode);
      t.equal(inodes.size, 1, 'inode numbers do not tell them apart');
      await settle();
      t.teardown(() => run('umount', [folder]).catch(() => undefined));
      await h.container(kind, name, { '/app': folder });
      await h.stop(kind, name);
      const job = await makeJob(a.service, { name, container: name, type: kind });
      for (const image of images) {
        await run('mount', ['-o', 'loop', image, folder]);
        await backUp(a.service, job);
        await writeFile(join(folder, 'films/one'), 'changed');
        await h.restore(kind, name);
        t.equal(await textOf(folder, 'films/one'), image);
        await run('umount', [folder]);
      }
    });
