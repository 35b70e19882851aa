import { constants, lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode, ioError } from './failure.js';

/** Hidden file in a share's root. It tells a mounted share from the empty mount point. */
export const markerName = '.container-backup-share';

const text = 'This file marks a share that container-backup uses. Without it the share counts as not mounted.\n';

/** Writes the marker into a share's root with fsync, when the share is first configured. Leaves an existing marker.
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

/** Whether the marker is in the share's root. A link or a folder of that name does not count. */
export async function hasMarker(root: string): Promise<boolean> {
  try {
    return (await lstat(join(root, markerName))).isFile();
  } catch {
    return false;
  }
}

/** Whether the share's names are case-sensitive: if not, the marker is also found in upper case. */
export async function isCaseSensitive(root: string): Promise<boolean> {
  return lstat(join(root, markerName.toUpperCase())).then(
    () => false,
    () => true,
  );
}
