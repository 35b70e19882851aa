/** Journals of the version before. There, a place's files lie beside it; today they lie in one folder of the draft. Adopting moves
 *  them into such a folder and returns today's form, so that one undo and one recovery serve both. The earlier journal stays until
 *  today's is written, and each step is idempotent. */
import { chmod, chown, lstat, mkdir, readdir, rename, rmdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { present } from '../presence.js';
import { syncFolder } from '../primitives/durable.js';
import { copyAttributes, inodeFlags, keepTime, timeOf } from './attributes.js';
import type { Phase } from './journal.js';
import { carryPlace, ownPrefix, type Parent, type Place } from './place.js';

export interface EarlierPlace {
  readonly live: string;
  /** whole: exchanged by a rename · entries: a mount point, exchanged entry by entry. */
  readonly way: 'whole' | 'entries';
  /** The folder that was filled. */
  readonly filled: string;
  /** The path renamed into place: that folder, or the one file in it. */
  readonly built: string;
  readonly old: string;
  /** The parent for today's draft folder: on the same file system. */
  readonly beside: string;
  readonly had: boolean;
  readonly excludes: readonly string[];
  /** Parent folders that the restore made, outermost first. */
  readonly parents: readonly string[];
  /** entries: names that move in. */
  readonly names: readonly string[];
  /** entries: the mount point's mode and owner; without them, those of `old` count. */
  readonly attributes?: Omit<Parent, 'path'>;
}

/** @param id of the draft's folder, unique among all drafts @returns the place in today's form */
export async function adoptPlace(place: EarlierPlace, id: string, phase: Phase): Promise<Place[]> {
  return place.way === 'entries' ? [await adoptEntries(place, phase)] : adoptWhole(place, id);
}

async function isFolder(...paths: readonly string[]): Promise<boolean> {
  for (const path of paths) if (await present(path)) return (await lstat(path)).isDirectory();
  return true;
}

const plain = (path: string): Parent => ({ path, mode: 0o755, uid: 0, gid: 0 });

async function adoptWhole({ live, filled, built, old, beside, had, excludes, parents }: EarlierPlace, id: string): Promise<Place[]> {
  const scratch = `${beside}/${ownPrefix}${id}`;
  const place = { live, scratch, old: `${scratch}/old`, had, excludes, parents: parents.map(plain), pinned: [] };
  const kind = (await isFolder(place.old, old, built, live)) ? 'folder' : 'file';
  const moved = [
    [filled, `${scratch}/new`],
    [old, place.old],
  ] as const;
  if (await present(beside)) {
    await keepTime(beside, async () => {
      await mkdir(scratch, { recursive: true, mode: 0o700 });
      for (const [from, to] of moved) if (!(await present(to)) && (await present(from))) await rename(from, to);
    });
    for (const folder of [scratch, beside]) await syncFolder(folder);
  }
  const renamed: Place = { ...place, way: 'rename', kind, built: `${scratch}/new${built.slice(filled.length)}` };
  // excluded files moved along with the old folder; a revert must move them back first
  return had && kind === 'folder' && excludes.length > 0 ? [renamed, carryPlace(place.old, live, excludes)] : [renamed];
}

/** Whether no new entry is in yet. Also true when that is unknown: then all old entries go back. */
async function isStillFilling({ built, names }: EarlierPlace): Promise<boolean> {
  const waiting = new Set(await readdir(built));
  return names.every((name) => waiting.has(name));
}

async function adoptEntries(place: EarlierPlace, phase: Phase): Promise<Place> {
  const { live, built, old, had, excludes, names } = place;
  const common = { kind: 'folder', live, built, old, scratch: dirname(old), had, excludes, parents: [] } as const;
  const hasOld = await present(old);
  if (phase === 'draft' && hasOld) await rmdir(old); // made in advance, still empty
  if (phase === 'draft' || !(await present(live))) return { ...common, way: 'contents', pinned: [] };
  if (hasOld) {
    const { mode, uid, gid } = place.attributes ?? (await lstat(old));
    await copyAttributes(Buffer.from(live), Buffer.from(old)); // extended attributes, which the swap did not change
    await chown(old, uid, gid);
    await chmod(old, mode & 0o7777);
    if (phase === 'swap' && (await isStillFilling(place))) await rename(old, `${old}-filling`);
    await syncFolder(dirname(old));
  }
  const mtime = String(await timeOf(Buffer.from(live)));
  const flags = await inodeFlags(Buffer.from(live));
  return { ...common, way: 'contents', pinned: [{ path: '', stay: [], enter: names, flags, mtime, builtMtime: mtime }] };
}

/** The folders from the topmost one that the restore made down to the parent of a path. */
export function madeParents(topmost: string, path: string): string[] {
  const parents: string[] = [];
  for (let above = dirname(path); topmost !== '' && above.startsWith(topmost); above = dirname(above)) parents.unshift(above);
  return parents;
}

/** The hidden name, in the same folder, that the version before used for a single file's draft. */
export const hiddenBeside = (path: string, mark: string): string => `${dirname(path)}/.${basename(path)}${mark}`;
