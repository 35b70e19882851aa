/** Mount points. A swap must neither move nor empty a file system mounted inside the folder that it replaces. */
import { readFile, rm } from 'node:fs/promises';
import { PluginError } from '../../core/contract/index.js';
import { within } from './paths.js';
import { childResult } from './primitives/child.js';

/** A line of mountinfo (proc(5)). */
export interface MountLine {
  readonly device: string; // major:minor
  /** The mounted folder's path within its file system. */
  readonly root: string;
  readonly point: string;
}

/** Decodes a field of mountinfo or fstab: blanks are octal escapes. */
export const decodeField = (field: string): string =>
  field.replace(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

export function parseMountinfo(table: string): MountLine[] {
  return table.split('\n').flatMap((line) => {
    const [, , device, root, point] = line.split(' ');
    if (device === undefined || root === undefined || point === undefined) return [];
    return [{ device, root: decodeField(root), point: decodeField(point) }];
  });
}

/** Mount points of this mount namespace, or of a process's namespace as that process sees them. */
export async function mountPoints(process: 'self' | number = 'self'): Promise<string[]> {
  return parseMountinfo(await readFile(`/proc/${process}/mountinfo`, 'utf8')).map(({ point }) => point);
}

/** The topmost mount points below a folder. */
export async function innerMounts(folder: string): Promise<string[]> {
  const below = [...new Set(await mountPoints())].filter((point) => point !== folder && within(point, folder));
  return below.filter((point) => !below.some((outer) => outer !== point && within(point, outer)));
}

/** Removes a tree that holds no mount, immutable files too. Does nothing when it does not exist. @throws PluginError in_use */
export async function removeTree(path: string): Promise<void> {
  const inner = (await mountPoints()).find((point) => within(point, path));
  if (inner !== undefined) throw new PluginError('in_use', `a file system is mounted at ${inner}; ${path} is not removed`);
  await removeUnlocked(path, () => rm(path, { force: true, maxRetries: 3, recursive: true }));
}

/** Removes a tree; if that fails, takes inode flags off and tries once more. An immutable or append-only entry shows as EPERM,
 *  ENOTDIR or ENOTEMPTY from Node, and as free text from an engine, so any error leads to the second try. */
export async function removeUnlocked(path: string, remove: () => Promise<unknown>): Promise<void> {
  try {
    await remove();
  } catch {
    await unlockTree(path);
    await remove();
  }
}

/** Clears the flags `i` and `a` in a tree. Ignores failures: the removal after it reports them. */
export async function unlockTree(path: string): Promise<void> {
  await childResult('chattr', ['-R', '-f', '-ia', '--', path]);
}

export interface InnerMount {
  readonly path: string;
  /** Leaves out the mount's contents, as in Source.excludes; the mount point itself is stored as an empty folder. */
  readonly exclude: string;
}

/** Mounts inside a folder that is read; they are no part of it. tar skips other file systems by itself, but reads a bind mount of
 *  the same file system as part of the tree. */
export async function mountsInside(folder: string): Promise<InnerMount[]> {
  return (await innerMounts(folder)).map((path) => ({ path, exclude: `${literalPattern(path, folder)}/*` }));
}

/** An exclude pattern for exactly one path below a folder. */
export const literalPattern = (path: string, folder: string): string => `.${path.slice(folder.length).replace(/[*?[\]\\]/g, '\\$&')}`;

export const innerMountReason = 'a file system that is mounted inside; back it up by itself';
