import { constants, lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, ioError } from './failure.js';

/** The hidden file in a share's root that tells a mounted share from the empty folder it is mounted on. */
export const markerName = '.container-backup-share';

const text = 'This file marks a share that container-backup uses. Without it the share counts as not mounted.\n';

/** Puts the marker into a share's root, durably; for when the share is first configured. A marker that is there stays.
 *  @throws PluginError */
export async function markShare(root: string): Promise<void> {
  try {
    const file = await open(
      join(root, markerName),
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o644,
    );
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    const folder = await open(root, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (cause) {
    if (errorCode(cause) === 'EEXIST' && (await hasMarker(root))) return;
    throw ioError(cause, `the share at ${root} could not be marked`);
  }
}

/** Whether the share's own marker is in its root. A link or a folder of that name is none. */
export async function hasMarker(root: string): Promise<boolean> {
  try {
    return (await lstat(join(root, markerName))).isFile();
  } catch {
    return false;
  }
}

/** Whether the share keeps names apart that differ only in case: if not, its marker is found under another one, too. */
export async function isCaseSensitive(root: string): Promise<boolean> {
  return lstat(join(root, markerName.toUpperCase())).then(
    () => false,
    () => true,
  );
}
