/** What is mounted where: a swap must neither move nor empty a file system that is mounted inside of what it replaces. */
import { readFile, rm } from 'node:fs/promises';
import { PluginError } from '../../core/contract/index.js';
import { childResult } from './child.js';
import { within } from './paths.js';

/** A line of mountinfo (proc(5)). */
export interface MountLine {
  readonly device: string; // major:minor
  /** Of what is mounted, within its file system. */
  readonly root: string;
  readonly point: string;
}

/** A field as the kernel, and fstab, write it: blanks and the like as octal escapes. */
export const decodeField = (field: string): string =>
  field.replace(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

export function parseMountinfo(table: string): MountLine[] {
  return table.split('\n').flatMap((line) => {
    const [, , device, root, point] = line.split(' ');
    if (device === undefined || root === undefined || point === undefined) return [];
    return [{ device, root: decodeField(root), point: decodeField(point) }];
  });
}

/** Mount points of this mount namespace, or of a process's one as that process sees them. */
export async function mountPoints(process: 'self' | number = 'self'): Promise<string[]> {
  return parseMountinfo(await readFile(`/proc/${process}/mountinfo`, 'utf8')).map(({ point }) => point);
}

/** The topmost mount points below a folder. */
export async function innerMounts(folder: string): Promise<string[]> {
  const below = [...new Set(await mountPoints())].filter((point) => point !== folder && within(point, folder));
  return below.filter((point) => !below.some((outer) => outer !== point && within(point, outer)));
}

/** Removes a tree that holds no mount; absent is fine. Immutable files go, too. @throws PluginError in_use */
export async function removeTree(path: string): Promise<void> {
  const inner = (await mountPoints()).find((point) => within(point, path));
  if (inner !== undefined) throw new PluginError('in_use', `a file system is mounted at ${inner}; ${path} is not removed`);
  await removeUnlocked(path, () => rm(path, { force: true, maxRetries: 3, recursive: true }));
}

/** Removes a tree, once more when something in it is immutable or append-only: that is EPERM, ENOTDIR or ENOTEMPTY, by what Node
 *  tries next, and an engine says it in its own words. */
export async function removeUnlocked(path: string, remove: () => Promise<unknown>): Promise<void> {
  try {
    await remove();
  } catch {
    await unlockTree(path);
    await remove();
  }
}

/** Takes away what forbids to remove a tree; what it cannot change is told by the removal. */
export async function unlockTree(path: string): Promise<void> {
  await childResult('chattr', ['-R', '-f', '-ia', '--', path]);
}

export interface InnerMount {
  readonly path: string;
  /** Leaves out what lies in it, as Source.excludes has it; the mount point itself is kept, as an empty folder. */
  readonly exclude: string;
}

/** Mounts inside of a folder that is read: they are no part of it. tar leaves other file systems out by itself, but takes a
 *  bind mount of the same one for a part of the tree. */
export async function mountsInside(folder: string): Promise<InnerMount[]> {
  return (await innerMounts(folder)).map((path) => ({ path, exclude: `${literalPattern(path, folder)}/*` }));
}

/** A path below a folder as an exclude takes it, for that path alone. */
export const literalPattern = (path: string, folder: string): string => `.${path.slice(folder.length).replace(/[*?[\]\\]/g, '\\$&')}`;

export const innerMountReason = 'a file system that is mounted inside; back it up by itself';
