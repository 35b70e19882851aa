import { execFile } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);

const formats = { ext4: ['-q', '-F', '-m', '0'], xfs: ['-q', '-f'], btrfs: ['-q', '-f'] } as const;

/** Mounts an empty file system at a folder, in a new file `image`. A sync of another one of this machine does not write back its pages. */
export async function ownFileSystem(
  t: Pick<Test, 'teardown'>,
  image: string,
  folder: string,
  bytes: number,
  type: keyof typeof formats = 'ext4',
): Promise<void> {
  await writeFile(image, '');
  await truncate(image, bytes);
  await run(`mkfs.${type}`, [...formats[type], image]);
  await run('mount', ['-o', 'loop', image, folder]);
  t.teardown(() => run('umount', ['-l', folder])); // lazily: a container that ends later may still use it
}
