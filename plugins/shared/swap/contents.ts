/** Exchanges a folder's entries one by one; the folder keeps its inode. Excluded paths, mounts inside and the folders above both
 *  (the pinned folders) stay where they are. The name of the old tree shows how far a swap came:
 *
 *    old-making   the pinned folders are being made anew, with their attributes; nothing has moved
 *    old-filling  old entries are moving out, or back in; no new entry is in
 *    old          all old entries are out; new entries are moving in, or all are in */
import { lstat, mkdir, rename, rmdir } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { innerMounts, removeTree } from '../mounts.js';
import { present } from '../presence.js';
import { syncFolder } from '../primitives/durable.js';
import { copyAttributes, inodeFlags, setInodeFlags, setTime, timeOf, unlockPath } from './attributes.js';
import { carryExcluded, excludedPaths } from './carry.js';
import { at, inside, namesIn, ownExcludes, ownPrefix, type PinnedFolder, type Place, parentOf, toLatin1 } from './place.js';
import type { TouchLog } from './touched.js';

const making = ({ old }: Place): string => `${old}-making`;
const filling = ({ old }: Place): string => `${old}-filling`;

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
const depth = (path: string): number => (path === '' ? 0 : path.split('/').length);

async function isFolder(path: Buffer): Promise<boolean> {
  return (await present(path)) && (await lstat(path)).isDirectory();
}

/** Whether an entry is not the container's: this product's own, or the file system's. */
const isForeign = (folder: string, name: string): boolean => name.startsWith(ownPrefix) || (folder === '' && name === 'lost+found');

/** Entries of a pinned folder that move. */
async function movingNames(tree: string, path: string, stay: readonly string[]): Promise<string[]> {
  const folder = at(tree, path);
  if (!(await isFolder(folder))) return [];
  const staying = new Set(stay);
  return (await namesIn(folder)).filter((name) => !staying.has(name) && !isForeign(path, name));
}

/** Finds the pinned folders, and the entries that move into each.
 *  @throws PluginError conflict: the backup has a file where a folder must stay */
export async function pinFolders({ live, built, excludes }: Place): Promise<PinnedFolder[]> {
  const stays = new Map<string, Set<string>>([['', new Set()]]);
  const mounts = (await innerMounts(live)).map((path) => toLatin1(path.slice(live.length + 1)));
  for (const path of [...mounts, ...(await excludedPaths(live, [...excludes, ...ownExcludes]))]) {
    for (let one = path; one !== ''; one = parentOf(one)) {
      const names = stays.get(parentOf(one)) ?? new Set();
      stays.set(parentOf(one), names.add(nameOf(one)));
    }
  }
  const pinned: PinnedFolder[] = [];
  for (const path of [...stays.keys()].sort((a, b) => depth(a) - depth(b))) {
    const stay = [...(stays.get(path) ?? [])];
    const there = at(built, path);
    const comesIn = await present(there);
    if (comesIn && !(await isFolder(there)))
      throw new PluginError(
        'conflict',
        `${path} is no folder in the backup; ${live}/${path} holds what the backup leaves out: move it away`,
      );
    const mtime = String(await timeOf(at(live, path)));
    const builtMtime = comesIn ? String(await timeOf(there)) : mtime;
    const enter = await movingNames(built, path, stay);
    const flags = await inodeFlags(at(live, path));
    const builtFlags = comesIn ? await inodeFlags(there) : flags;
    pinned.push({ path, stay, enter, flags, builtFlags, mtime, builtMtime });
  }
  return pinned;
}

async function syncPinned({ pinned }: Place, ...trees: readonly string[]): Promise<void> {
  for (const tree of trees) {
    for (const { path } of pinned) if (await isFolder(at(tree, path))) await syncFolder(at(tree, path));
  }
}

/** Makes the pinned folders in the old tree with their attributes, before anything moves: an undo gives these back. */
async function makeOld(place: Place): Promise<void> {
  await removeTree(making(place));
  for (const { path } of place.pinned) await mkdir(at(making(place), path), { mode: 0o700 });
  for (const { path } of place.pinned.toReversed()) await copyAttributes(at(place.live, path), at(making(place), path));
  await syncPinned(place, making(place));
  await rename(making(place), filling(place));
  await syncFolder(place.scratch);
}

/** Pinned folders that have or get flags. Only these are unlocked: there may be thousands without, and each costs a process. */
const flagged = ({ pinned }: Place): PinnedFolder[] => pinned.filter(({ flags, builtFlags = '' }) => flags !== '' || builtFlags !== '');

/** Clears the flags `i` and `a`, which forbid to move entries into or out of a folder. */
async function unlock(place: Place, ...trees: readonly string[]): Promise<void> {
  for (const tree of trees) for (const { path } of flagged(place)) if (await isFolder(at(tree, path))) await unlockPath(at(tree, path));
}

/** Sets the pinned folders' flags, as the last step. */
async function lock(place: Place, flagsOf: (folder: PinnedFolder) => string): Promise<void> {
  for (const folder of flagged(place)) await setInodeFlags(at(place.live, folder.path), flagsOf(folder));
}

/** Moves old entries out and new ones in. Durable when it resolves. */
export async function swapContents(place: Place, log: TouchLog): Promise<void> {
  const { live, built, old, pinned, scratch } = place;
  await makeOld(place);
  await unlock(place, live, built);
  for (const { path, stay } of pinned) {
    for (const name of await movingNames(live, path, stay)) await move(log, live, filling(place), inside(path, name));
  }
  await syncPinned(place, filling(place), live);
  await rename(filling(place), old);
  await syncFolder(scratch);
  for (const { path, enter } of pinned) for (const name of enter) await move(log, built, live, inside(path, name));
  for (const { path, builtMtime } of pinned.toReversed()) {
    await copyAttributes((await present(at(built, path))) ? at(built, path) : at(old, path), at(live, path));
    await setTime(at(live, path), BigInt(builtMtime));
  }
  await lock(place, ({ flags, builtFlags = flags }) => builtFlags);
  await syncPinned(place, live, old);
}

const move = (log: TouchLog, from: string, to: string, path: string): Promise<void> => log.rename(at(from, path), at(to, path));

/** Reverts swapContents from any point at which it stopped. Idempotent. Entries that appeared since are moved aside, except
 *  excluded ones, which stay wherever they appeared. */
export async function revertContents(place: Place, log: TouchLog): Promise<void> {
  const { live, old, excludes, scratch, pinned } = place;
  await removeTree(making(place));
  if (await present(old)) {
    await unlock(place, live);
    const recorded = new Set(pinned.flatMap(({ path, stay }) => stay.map((name) => inside(path, name))));
    if (await present(live)) await carryExcluded(live, old, { excludes, except: recorded }, log);
    for (const { path, stay } of pinned)
      for (const name of await movingNames(live, path, stay)) await takeOut(place, log, inside(path, name));
    await syncPinned(place, live, old);
    await rename(old, filling(place));
    await syncFolder(scratch);
  }
  if (!(await present(filling(place)))) return;
  await unlock(place, live);
  await bringBack(place, log);
  await lock(place, ({ flags }) => flags);
  await syncPinned(place, live);
  for (const { path } of pinned.toReversed()) {
    if (await present(at(filling(place), path))) await rmdir(at(filling(place), path)); // missing: an earlier try removed it
  }
  await syncFolder(scratch);
}

/** Moves an entry back to the draft, or aside to `later` if the draft has that name: then another process created the entry. */
async function takeOut({ live, built, scratch }: Place, log: TouchLog, path: string): Promise<void> {
  const isBack = !(await present(at(built, path)));
  const tree = isBack ? built : `${scratch}/later`;
  await mkdir(at(tree, parentOf(path)), { recursive: true });
  await move(log, live, tree, path);
}

async function bringBack(place: Place, log: TouchLog): Promise<void> {
  const { live, pinned } = place;
  for (const { path } of pinned) {
    const children = new Set(pinned.filter((one) => one.path !== '' && parentOf(one.path) === path).map((one) => nameOf(one.path)));
    const folder = at(filling(place), path);
    if (!(await present(folder))) continue; // an earlier try brought all of it back and removed the folder
    if (!(await present(at(live, path)))) await mkdir(at(live, path), { recursive: true });
    for (const name of await namesIn(folder)) {
      if (children.has(name)) continue;
      if (await present(at(live, inside(path, name)))) await takeOut(place, log, inside(path, name));
      await move(log, filling(place), live, inside(path, name));
    }
  }
  for (const { path, mtime } of pinned.toReversed()) {
    if (await present(at(filling(place), path))) await copyAttributes(at(filling(place), path), at(live, path));
    await setTime(at(live, path), BigInt(mtime));
  }
}
