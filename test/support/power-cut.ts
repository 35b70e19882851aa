/** A file system on a loop device that can lose its power (FS_IOC_SHUTDOWN). A cut drops every byte that was not synced, as on a real
 *  disk. */
import { mkdir, rm } from 'node:fs/promises';
import type { Test } from 'tap';
import { childOutput } from '../../plugins/shared/primitives/child.js';

export interface CutFileSystem {
  /** Mount point. */
  readonly folder: string;
  /** Cuts the power, lets `end` close all open files, and switches the power on again. */
  cut(end?: () => Promise<unknown>): Promise<void>;
}

/** How each kind is made and mounted. ext4 commits its journal at an fsync, and by itself only after a long time (commit=). XFS refuses
 *  a copy of a disk that a container still mounts (nouuid allows it). mkfs.xfs refuses less than 300 MB. */
const kinds = {
  ext4: { size: '64M', make: ['mkfs.ext4', '-q', '-F'], options: 'loop,commit=300' },
  xfs: { size: '320M', make: ['mkfs.xfs', '-q'], options: 'loop,nouuid' },
  btrfs: { size: '160M', make: ['mkfs.btrfs', '-q'], options: 'loop' },
} as const;

export type DiskKind = keyof typeof kinds;

/** FS_IOC_SHUTDOWN (linux/fs.h), which is XFS_IOC_GOINGDOWN by number, with EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h), which XFS
 *  has by the same number. From then on nothing is written, not even the journal. btrfs has no such call before Linux 6.19. */
const shutDown = `
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
`;

/** Makes a file system and mounts it in a new folder of `above`. The test unmounts and removes it at its end. */
export async function cutFileSystem(t: Pick<Test, 'teardown'>, above: string, kind: DiskKind = 'ext4'): Promise<CutFileSystem> {
  const folder = `${above}/disk`;
  let image = `${above}/disk-0.img`;
  const { size, make, options } = kinds[kind];
  const [program, ...flags] = make;
  const mount = () => childOutput('mount', ['-t', kind, '-o', options, image, folder]);
  const unmount = () => childOutput('umount', ['-l', folder]);
  await mkdir(folder, { recursive: true });
  await childOutput('truncate', ['-s', size, image]);
  await childOutput(program, [...flags, image]);
  await mount();
  t.teardown(async () => {
    await unmount();
    await rm(image);
  });
  let cuts = 0;
  return {
    folder,
    async cut(end) {
      await childOutput('python3', ['-c', shutDown, folder]);
      await end?.();
      await unmount();
      // Mounts a copy of the disk. Containers that were started meanwhile have the old mount in their namespaces. So the same disk
      // would be that file system again, which is shut down.
      const before = image;
      image = `${above}/disk-${++cuts}.img`;
      await childOutput('cp', ['--sparse=always', before, image]);
      await rm(before);
      await mount();
    },
  };
}
