import { readdir, rm } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { childOutput } from '../../shared/primitives/child.js';
import { withoutLocks } from '../../shared/swap/index.js';
import type { Client } from './engine/client.js';
import { engine } from './engine/engine.js';
import type { Inspect } from './engine/inspect.js';
import { text } from './engine/json.js';

/** Whether the backup holds the whole root instead of the writable layer, because the engine named no layer. */
export const isWholeRoot = (inspect: Inspect): boolean => text(inspect.layer.UpperDir) === '';

/** First-level folders that rootSource leaves out of a whole root. */
const notRead = new Set(['proc', 'sys', 'dev', 'run']);

/** Empties the new container's root on an engine with whole roots (vfs): the backup brings every file, so the image's own copies
 *  must go. @returns the root's folder @throws PluginError unsupported */
export async function emptyWholeRoot(client: Client, id: string, inspect: Inspect): Promise<string> {
  const root = await engine.vfsRoot(client, id);
  if (root === undefined) throw new PluginError('unsupported', 'This Docker names no folder of a container: use the overlay2 driver');
  if (!isWholeRoot(inspect)) {
    throw new PluginError(
      'unsupported',
      'The backup holds the changes to an image and this Docker keeps whole roots: use the overlay2 driver',
    );
  }
  for (const name of await readdir(root)) if (!notRead.has(name)) await rm(`${root}/${name}`, { recursive: true, force: true });
  return root;
}

/** Hides the image's files below a layer that holds a whole root, so that files deleted before the backup stay deleted. Uses
 *  overlayfs marks: a 0/0 character device hides a name, `trusted.overlay.opaque` hides a folder's contents
 *  (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"). */
export async function hideImage(upper: string, lowerFolders: readonly string[], inspect: Inspect): Promise<void> {
  if (lowerFolders.length === 0) return; // vfs: no image lies below
  const kept = new Set([...notRead, ...inspect.mounts.map(({ destination }) => destination.split('/')[1] ?? '')]);
  const own = await readdir(upper, { withFileTypes: true });
  const present = new Set(own.map(({ name }) => name));
  const below = (await Promise.all(lowerFolders.map((folder) => readdir(folder)))).flat();
  await withoutLocks(Buffer.from(upper), async () => {
    for (const name of new Set(below)) {
      if (!present.has(name) && !kept.has(name)) await childOutput('mknod', [`${upper}/${name}`, 'c', '0', '0']);
    }
  });
  const folders = own.filter((entry) => entry.isDirectory()).map(({ name }) => `${upper}/${name}`);
  for (const folder of folders) {
    await withoutLocks(Buffer.from(folder), () => childOutput('setfattr', ['-n', 'trusted.overlay.opaque', '-v', 'y', '--', folder]));
  }
}
