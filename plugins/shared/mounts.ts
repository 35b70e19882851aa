/** What is mounted where: a swap must neither move nor empty a file system that is mounted inside of what it replaces. */
import { readFile, rm } from 'node:fs/promises';
import { PluginError } from '../../core/contract/index.js';
import { within } from './paths.js';

/** Mount points of this mount namespace. */
export async function mountPoints(): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  return table.split('\n').flatMap((line) => {
    const field = line.split(' ')[4];
    return field === undefined
      ? []
      : [field.replace(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))];
  });
}

/** Refuses a folder with a mount inside: a rename of the folder takes the mount along, and removing the old folder empties it.
 *  @throws PluginError in_use */
export async function refuseMountsBelow(path: string): Promise<void> {
  const inner = (await mountPoints()).find((point) => point !== path && within(point, path));
  if (inner !== undefined) throw new PluginError('in_use', `a file system is mounted at ${inner}; unmount it to replace ${path}`);
}

/** Removes a tree that holds no mount; absent is fine. */
export async function removeTree(path: string): Promise<void> {
  const inner = (await mountPoints()).find((point) => within(point, path));
  if (inner !== undefined) throw new PluginError('in_use', `a file system is mounted at ${inner}; ${path} is not removed`);
  await rm(path, { force: true, maxRetries: 3, recursive: true });
}

export interface InnerMount {
  readonly path: string;
  /** Leaves out what lies in it, as Source.excludes has it; the mount point itself is kept, as an empty folder. */
  readonly exclude: string;
}

/** Mounts inside of a folder that is read: they are no part of it. tar leaves other file systems out by itself, but takes a
 *  bind mount of the same one for a part of the tree. */
export async function mountsInside(folder: string): Promise<InnerMount[]> {
  const inner = (await mountPoints()).filter((point) => point !== folder && within(point, folder));
  const pattern = (path: string) => path.slice(folder.length).replace(/[*?[\]\\]/g, '\\$&');
  return [...new Set(inner)].map((path) => ({ path, exclude: `.${pattern(path)}/*` }));
}

export const innerMountReason = 'a file system that is mounted inside; back it up by itself';
