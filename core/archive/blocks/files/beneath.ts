/** Opens files below a folder without following a symlink: whoever owns the tree may put one there at any time. */
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { PluginError } from '../../../contract/index.js';

const folderFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Opens a folder whose own path is trusted. */
export function openTop(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

function below(folder: FileHandle, name: string): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${folder.fd}/`), Buffer.from(name, 'latin1')]);
}

/** Whether a path has only names: no empty part, `.` or `..`. */
export function isInside(path: string): boolean {
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && !part.includes('\0'));
}

/** @param path its bytes as latin-1, relative to the folder
 *  @throws PluginError invalid for a path that leads out; what open(2) throws, ELOOP for a symlink on the way */
export async function openBeneath(top: FileHandle, path: string, flags: number, mode = 0o600): Promise<FileHandle> {
  if (!isInside(path)) throw new PluginError('invalid', `${JSON.stringify(path)} leads out of its folder`);
  const parts = path.split('/');
  const name = parts.pop() ?? '';
  let folder = top;
  try {
    for (const part of parts) {
      const next = await open(below(folder, part), folderFlags);
      if (folder !== top) await folder.close();
      folder = next;
    }
    return await open(below(folder, name), flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, mode);
  } finally {
    if (folder !== top) await folder.close();
  }
}

/** Removes whatever has a name: a file, a link, a folder with all that it holds. */
export async function removeBeneath(top: FileHandle, path: string): Promise<void> {
  const cut = path.lastIndexOf('/');
  if (cut < 0) return rm(below(top, path), { recursive: true, force: true });
  await using folder = await openBeneath(top, path.slice(0, cut), constants.O_RDONLY | constants.O_DIRECTORY);
  await rm(below(folder, path.slice(cut + 1)), { recursive: true, force: true });
}
