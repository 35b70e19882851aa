/** Swaps the places of a draft in, one after the other, and reverts the swap from any point at which it stopped. */
import { lstat, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PluginError } from '../../../core/contract/index.js';
import { innerMounts, mountPoints, removeTree } from '../mounts.js';
import { within } from '../paths.js';
import { isTaken, present } from '../presence.js';
import { childOutput } from '../primitives/child.js';
import { syncFolder } from '../primitives/durable.js';
import { copyAttributes } from './attributes.js';
import { carryExcluded, excludedPaths } from './carry.js';
import { pinFolders, revertContents, swapContents } from './contents.js';
import {
  changeScratch,
  fillFolder,
  inside,
  makeParents,
  noteAbove,
  noteChange,
  oneFile,
  ownPrefix,
  type Place,
  removeParents,
  returnAbove,
  type Save,
  toLatin1,
} from './place.js';
import { TouchLog } from './touched.js';

const buffer = (path: string): Buffer => Buffer.from(path);

/** Syncs what the draft filled, before anything that exists is touched. */
export async function syncFilled(places: readonly Place[]): Promise<void> {
  const folders = places.filter(({ way }) => way !== 'carry').map(fillFolder);
  if (folders.length > 0) await childOutput('sync', ['-f', '--', ...folders]);
}

/** Checks a place and records in it what will move, so that the journal names it before anything moves.
 *  @throws PluginError exists, conflict, in_use, damaged */
async function preparePlace(place: Place): Promise<void> {
  const { way, kind, live } = place;
  if (way === 'made' || way === 'carry') return;
  if (kind === 'file') place.built = await oneFile(place);
  else if (!(await present(place.built))) throw new PluginError('damaged', `${place.built}, the draft for ${live}, is gone`);
  const there = (await present(live)) ? await lstat(live) : undefined;
  if (there && !place.had && (kind === 'file' || (await isTaken(live))))
    throw new PluginError('exists', `${live} was created meanwhile; move it away`);
  if (there && there.isDirectory() !== (kind === 'folder'))
    throw new PluginError('conflict', `${live} is ${there.isDirectory() ? 'a folder' : 'no folder'}, unlike in the backup; move it away`);
  if (there && kind === 'file' && (await mountPoints()).includes(live))
    throw new PluginError('in_use', `${live} is a mount point; unmount it`);
  place.had = there !== undefined;
  place.way = there && kind === 'folder' ? 'contents' : 'rename';
  if (place.way === 'rename') place.above = await noteAbove(live);
  if (place.way === 'contents') place.pinned = await pinFolders(place);
}

/** Swaps all places in, outer folders before inner ones. Checks each just before its own swap.
 *  @param save writes the journal, which names a place's moves before the first of them */
export async function swapPlaces(places: readonly Place[], save: Save): Promise<void> {
  for (const place of places) {
    await preparePlace(place);
    await save();
    await swapIn(place, save);
  }
}

/** Makes the new files live and moves the old ones aside. Durable when it resolves. */
async function swapIn(place: Place, save: Save): Promise<void> {
  const { way, live, built, old, had, scratch, above } = place;
  const log = new TouchLog(place, save);
  if (way === 'made') return;
  if (way === 'carry') return carryExcluded(live, built, place, log);
  if (way === 'contents') return swapContents(place, log);
  if (had) await log.rename(buffer(live), buffer(old));
  await makeParents(place);
  await log.rename(buffer(built), buffer(live));
  if (above) place.above = await noteChange(above);
  await syncFolder(dirname(live));
  await syncFolder(scratch);
}

/** Refuses a revert that would move a file system mounted since the restore. @throws PluginError in_use */
export async function refuseLaterMounts({ way, live, pinned, stays }: Place): Promise<void> {
  if (way === 'carry' || stays || (way === 'contents' && pinned.length === 0)) return; // nothing was moved
  const folders = new Set(pinned.map(({ path }) => path));
  const staying = pinned.flatMap(({ path, stay }) => stay.map((name) => inside(path, name))).filter((path) => !folders.has(path));
  const own = way !== 'contents' && (await mountPoints()).includes(live) ? [live] : [];
  const later = [...own, ...(await innerMounts(live))].find((point) => {
    const path = toLatin1(point.slice(live.length + 1));
    return !staying.some((one) => within(path, one));
  });
  if (later !== undefined) throw new PluginError('in_use', `a file system was mounted at ${later} since the restore: unmount it first`);
}

/** Reverts swapIn from any point at which it stopped. Idempotent. @throws PluginError in_use */
export async function swapBack(place: Place, save: Save): Promise<void> {
  const { way, live, built, stays } = place;
  const log = new TouchLog(place, save);
  if (way === 'made' || stays) return;
  if (way === 'carry') return (await present(built)) && (await present(live)) ? carryExcluded(built, live, place, log) : undefined;
  if (way === 'contents') {
    await refuseLaterMounts(place);
    return revertContents(place, log);
  }
  await returnAbove(place, save, () => renameBack(place, log));
  if (await present(dirname(live))) await syncFolder(dirname(live));
}

async function renameBack(place: Place, log: TouchLog): Promise<void> {
  const { kind, live, built, old, had } = place;
  const isIn = !(await present(built)) && (await present(live)) && (!had || (await present(old)));
  if (isIn) {
    await refuseLaterMounts(place);
    await log.rename(buffer(live), buffer(built));
  }
  if (!had && kind === 'folder' && (await present(built))) await leaveExcluded(place, log);
  if (had && (await present(old))) {
    await makeParents(place);
    await log.rename(buffer(old), buffer(live));
  }
}

/** Leaves excluded files that appeared since, although the folder did not exist before the restore. */
async function leaveExcluded(place: Place, log: TouchLog): Promise<void> {
  const { live, built, excludes } = place;
  const later = (await excludedPaths(built, excludes)).filter((path) => !path.startsWith(ownPrefix));
  if (later.length === 0) return;
  if (!(await present(live))) {
    await mkdir(live);
    await copyAttributes(buffer(built), buffer(live));
  }
  await carryExcluded(built, live, place, log);
}

/** Removes the draft's side of a place. `keep`: the draft is live, remove the old files; else remove what the draft made. */
export async function clearPlace(place: Place, keep: boolean, save: Save): Promise<void> {
  const { way, old, scratch } = place;
  if (way === 'made' || way === 'carry') return;
  for (const kept of keep ? [] : [old, `${old}-filling`]) {
    if (await present(kept)) throw new PluginError('failed', `${kept} holds replaced files; revert the swap first`);
  }
  if (scratch !== '' && (await present(scratch))) {
    await changeScratch(place, save, () => removeTree(scratch));
    await syncFolder(dirname(scratch)); // before the journal is removed, which alone names this folder
  }
  if (!keep && place.parents.length > 0) await returnAbove(place, save, () => removeParents(place));
}

/** Paths that an undo of the places needs. */
export const keptPaths = (places: readonly Place[]): readonly string[] =>
  places.filter(({ way, had }) => had && way !== 'carry' && way !== 'made').map(({ old }) => old);

/** Bytes on disk that an undo of the places needs. */
export async function keptBytes(places: readonly Place[]): Promise<number> {
  let bytes = 0;
  for (const path of keptPaths(places)) {
    if (await present(path)) bytes += Number.parseInt(await childOutput('du', ['-sxB1', '--', path]), 10);
  }
  return bytes;
}
