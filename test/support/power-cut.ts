/** A file system that loses its power, on a loop device. What was not synced when it is cut is gone, as on a real disk whose
 *  machine is switched off. */
import { mkdir, rm } from 'node:fs/promises';
import type { Test } from 'tap';
import { childOutput } from '../../plugins/shared/primitives/child.js';

export interface CutFileSystem {
  /** Where it is mounted. */
  readonly folder: string;
  /** Cuts the power and switches it on again; `end` closes what still holds files, in between. */
  cut(end?: () => Promise<unknown>): Promise<void>;
}

/** How each kind is made and mounted. ext4's journal is committed when something is synced, and hardly ever by itself. XFS takes a copy
 *  of a disk that is still mounted in a container for the same one; its mkfs refuses less than 300 MB. */
const kinds = {
  ext4: { size: '64M', make: ['mkfs.ext4', '-q', '-F'], options: 'loop,commit=300' },
  xfs: { size: '320M', make: ['mkfs.xfs', '-q'], options: 'loop,nouuid' },
  btrfs: { size: '160M', make: ['mkfs.btrfs', '-q'], options: 'loop' },
} as const;

export type DiskKind = keyof typeof kinds;

/** FS_IOC_SHUTDOWN (linux/fs.h), which is XFS_IOC_GOINGDOWN by number, with EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h), which XFS has
 *  by the same number, too: nothing is written any more, the journal neither. btrfs has no such call before Linux 6.19. */
const shutDown = `
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
`;

/** A mounted folder of its own below `above`; the test removes it at its end. */
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
      // A copy of the disk: containers that were started meanwhile have the old mount in their namespaces, and the same disk
      // would be that file system again, which is shut down.
      const before = image;
      image = `${above}/disk-${++cuts}.img`;
      await childOutput('cp', ['--sparse=always', before, image]);
      await rm(before);
      await mount();
    },
  };
}
