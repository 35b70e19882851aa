/** A small disk that a test can fill to the last block. */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { childOutput } from '../../../plugins/shared/primitives/child.js';

export interface SmallDisk {
  readonly folder: string;
  /** Leaves so many bytes free. */
  fill(bytes: number): Promise<void>;
  empty(): Promise<void>;
}

/** tmpfs, or ext4 on a loop device, which notices a full disk only when it allocates blocks. */
export async function smallDisk(t: Pick<Test, 'teardown'>, kind: 'tmpfs' | 'ext4' = 'tmpfs', mebibytes = 64): Promise<SmallDisk> {
  const above = await mkdtemp(join(tmpdir(), 'full-'));
  const folder = join(above, 'disk');
  await mkdir(folder);
  if (kind === 'tmpfs') await childOutput('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'none', folder]);
  else {
    await childOutput('truncate', ['-s', `${mebibytes}M`, `${above}/image`]);
    await childOutput('mkfs.ext4', ['-q', '-F', '-m', '0', `${above}/image`]);
    await childOutput('mount', ['-o', 'loop', `${above}/image`, folder]);
  }
  t.teardown(async () => {
    await childOutput('umount', ['-l', folder]);
    await rm(above, { recursive: true });
  });
  return {
    folder,
    async fill(bytes) {
      const { bavail, bsize } = await statfs(folder);
      // ext4 needs extra blocks for a large file. So the rest is filled with smaller files.
      let left = bavail * bsize - bytes;
      for (let size = left; size >= bsize; size = Math.min(left, size)) {
        const took = await childOutput('fallocate', ['-l', String(size), join(folder, `ballast-${randomUUID()}`)]).then(
          () => true,
          () => false,
        );
        if (took) left -= size;
        else size = Math.floor(size / 2);
      }
    },
    async empty() {
      for (const name of await readdir(folder)) if (name.startsWith('ballast')) await rm(join(folder, name));
    },
  };
}
