import { readdir, rm } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { childOutput } from '../../shared/child.js';
import { withoutLocks } from '../../shared/swap/index.js';
import type { Client } from './engine/client.js';
import { engine } from './engine/engine.js';
import type { Inspect } from './engine/inspect.js';
import { text } from './engine/json.js';

/** Whether a backup of it holds the whole root instead of the writable layer: the engine named no layer then. */
export const isWholeRoot = (inspect: Inspect): boolean => text(inspect.layer.UpperDir) === '';

/** What rootSource leaves out of a whole root, by first-level name. */
const notRead = new Set(['proc', 'sys', 'dev', 'run']);

/** The new container's root on an engine that keeps it whole, without what the image put there: a backup of a whole root
 *  brings all of it. @throws PluginError unsupported */
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

/** Makes a layer that holds a whole root hide the image's files, so that what had been deleted does not come back:
 *  overlayfs' own marks, a 0/0 character device for a name and `trusted.overlay.opaque` for a folder
 *  (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"). */
export async function hideImage(upper: string, lowerFolders: readonly string[], inspect: Inspect): Promise<void> {
  if (lowerFolders.length === 0) return; // a whole root, which the image is not below
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
