/** Files of many GB that take little space: an xfs file system in a file, where each copy shares the blocks of the first
 *  (reflink). A reader gets real blocks, no holes. */
import { constants } from 'node:fs';
import { copyFile, mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { childOutput } from '../../../plugins/shared/primitives/child.js';

const fileMiB = 256;
/** mkfs.xfs needs 300 MB or more. */
const imageMiB = 1024;

/** Text that compresses well, so that the target stores little, and that repeats nowhere. */
async function makeFirst(path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    for (let n = 0; n < fileMiB; n++) await file.write(Buffer.from(`line ${n} of a file that is not empty\n`.repeat(40_000)), 0, 1 << 20);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Mounts a folder with files of so many MiB in all. The test removes it at its end, before everything that was made earlier. */
export async function reflinkedFolder(t: Pick<Test, 'teardown'>, above: string, mebibytes: number): Promise<string> {
  const image = join(above, 'xfs-image');
  const folder = join(above, 'xfs');
  await mkdir(folder, { recursive: true });
  await childOutput('truncate', ['-s', `${imageMiB}M`, image]);
  await childOutput('mkfs.xfs', ['-q', '-m', 'reflink=1', image]);
  await childOutput('mount', ['-o', 'loop', image, folder]);
  t.teardown(async () => {
    await childOutput('umount', ['-l', folder]);
    await rm(image);
  });
  const data = join(folder, 'data');
  await mkdir(data);
  await makeFirst(join(data, '0'));
  for (let n = 1; n * fileMiB < mebibytes; n++) await copyFile(join(data, '0'), join(data, `${n}`), constants.COPYFILE_FICLONE_FORCE);
  return data;
}

/** Whether all blocks of a file are allocated. */
export async function isWhole(path: string): Promise<boolean> {
  const { size, blocks } = await stat(path);
  return size > 0 && blocks * 512 >= size;
}
