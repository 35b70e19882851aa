import { chmod, chown, lstat, mkdir, readdir, realpath, rename, rmdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { PluginError } from '../../../core/contract/index.js';
import { carryExcluded } from '../../shared/carry.js';
import { syncFolder } from '../../shared/durable.js';
import { mountPoints, refuseMountsBelow, removeTree } from '../../shared/mounts.js';

/** A folder or file of the host that a draft fills beside the live one.
 *  direct: made for the draft, nothing to swap · rename: a sibling takes its place
 *  · entries: a mount point, whose first-level entries are swapped · file: as rename, for one file. */
export interface Place {
  readonly mode: 'direct' | 'rename' | 'entries' | 'file';
  readonly live: string;
  readonly rand: string;
  /** Whether something was at `live` when the swap began. */
  had: boolean;
  /** entries: what moves in. file: the one file. Written to the journal before the first move. */
  names: string[];
  /** What the run leaves out of it: it stays as it is. */
  readonly excludes: readonly string[];
  /** The topmost parent that had to be made; '' for none. */
  readonly madeParent: string;
  /** entries: of the mount point itself, which cannot move. */
  attributes?: { readonly mode: number; readonly uid: number; readonly gid: number };
}

const exists = async (path: string) => (await lstat(path).catch(() => undefined)) !== undefined;

/** What the draft made beside the live one. */
function root(place: Place): string {
  const mark = `.container-backup-${place.rand}`;
  if (place.mode === 'entries') return `${place.live}/${mark}`;
  return place.mode === 'file' ? `${dirname(place.live)}/.${basename(place.live)}${mark}` : `${place.live}${mark}`;
}

/** The folder that the caller fills. */
export function stage(place: Place): string {
  if (place.mode === 'direct') return place.live;
  return place.mode === 'entries' ? `${root(place)}/new` : root(place);
}

function oldOf(place: Place): string {
  return place.mode === 'entries' ? `${root(place)}/old` : `${place.live}.container-backup-old-${place.rand}`;
}

const incoming = (place: Place) => (place.mode === 'file' ? `${root(place)}/${place.names[0] ?? ''}` : stage(place));

async function isMountPoint(path: string): Promise<boolean> {
  const [own, parent] = await Promise.all([lstat(path), lstat(dirname(path))]);
  if (own.dev !== parent.dev) return true;
  return (await mountPoints()).includes(path); // a bind mount of the same file system has the same device
}

/** Decides how `path` will be swapped, and names its missing parents; makes nothing. A link stays: what it leads to is swapped. */
export async function planPlace(path: string, kind: 'folder' | 'file', rand: string, excludes: readonly string[] = []): Promise<Place> {
  const live = await realpath(path).catch(() => path); // a link that leads nowhere is replaced as it is
  let madeParent = '';
  for (let parent = dirname(live); parent !== '/' && !(await exists(parent)); parent = dirname(parent)) madeParent = parent;
  const had = await exists(live);
  const mode = kind === 'file' ? 'file' : had && (await isMountPoint(live)) ? 'entries' : 'rename';
  return { mode, live, rand, had, names: [], madeParent, excludes };
}

export async function makeStage(place: Place): Promise<void> {
  if (place.mode !== 'direct') await mkdir(stage(place), { recursive: true, mode: 0o700 });
  if (place.mode === 'entries') await mkdir(oldOf(place), { mode: 0o700 });
}

/** Looks at what will be moved, so that the journal can tell it before anything moves. @throws PluginError in_use */
export async function preparePlace(place: Place): Promise<void> {
  if (place.mode === 'direct') return;
  place.had = await exists(place.live);
  await refuseMountsBelow(place.live);
  if (place.mode === 'rename') return;
  place.names = (await readdir(stage(place))).filter((name) => place.mode === 'file' || !isLeftAlone(name));
  if (place.mode === 'file' && place.names.length !== 1) {
    throw new PluginError('damaged', `The archive of ${place.live} holds ${place.names.length} entries instead of one`);
  }
  if (place.mode !== 'entries') return;
  const { mode, uid, gid } = await lstat(place.live);
  place.attributes = { mode: mode & 0o7777, uid, gid };
}

/** Of a mount point: this draft's own folder, those of older undos, and what belongs to the file system. */
const isLeftAlone = (name: string) => name.startsWith('.container-backup-') || name === 'lost+found';

async function moveAll(from: string, to: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rename(`${from}/${name}`, `${to}/${name}`);
}

/** The new one is live afterwards and the old one aside. */
export async function swapIn(place: Place): Promise<void> {
  if (place.mode === 'direct') return;
  if (place.mode === 'entries') {
    const names = (await readdir(place.live)).filter((name) => !isLeftAlone(name));
    await moveAll(place.live, oldOf(place), names);
    await moveAll(stage(place), place.live, place.names);
    await carryExcluded(oldOf(place), place.live, place);
    const { mode, uid, gid } = await lstat(stage(place));
    await chown(place.live, uid, gid);
    await chmod(place.live, mode & 0o7777);
    return syncFolder(place.live);
  }
  if (place.had) await rename(place.live, oldOf(place));
  await rename(incoming(place), place.live);
  if (place.had && place.mode === 'rename') await carryExcluded(oldOf(place), place.live, place);
  await syncFolder(dirname(place.live));
}

/** Undoes swapIn from any point it may have stopped at; twice is fine. */
export async function swapBack(place: Place): Promise<void> {
  if (place.mode === 'direct') return;
  if (place.mode === 'entries') {
    if (!(await exists(root(place)))) return;
    const waiting = new Set(await readdir(stage(place)));
    // Before all was moved in, nothing was carried over yet.
    if (place.names.every((name) => !waiting.has(name)))
      await carryExcluded(place.live, oldOf(place), { ...place, except: basename(root(place)), parents: place.names.length > 0 });
    const oldNames = await readdir(oldOf(place));
    const moved: string[] = [];
    for (const name of place.names) if (!waiting.has(name) && (await exists(`${place.live}/${name}`))) moved.push(name);
    await moveAll(place.live, stage(place), moved);
    await moveAll(oldOf(place), place.live, oldNames);
    if (place.attributes) await chown(place.live, place.attributes.uid, place.attributes.gid);
    if (place.attributes) await chmod(place.live, place.attributes.mode);
    return syncFolder(place.live);
  }
  const moved = place.had ? await exists(oldOf(place)) : !(await exists(incoming(place)));
  if (!moved) return;
  if ((await exists(place.live)) && place.had && place.mode === 'rename') await carryExcluded(place.live, oldOf(place), place);
  if (await exists(place.live)) await rename(place.live, incoming(place));
  if (place.had) await rename(oldOf(place), place.live);
  await syncFolder(dirname(place.live));
}

/** Removes what is beside the live one, and what the draft made for it unless `keep`. */
export async function clearPlace(place: Place, keep: boolean): Promise<void> {
  if (place.mode === 'direct') return; // its volume is removed as a whole
  await removeTree(root(place));
  if (place.mode !== 'entries' && keep) await removeTree(oldOf(place));
  if (keep || place.madeParent === '') return;
  for (let parent = dirname(place.live); parent.startsWith(place.madeParent); parent = dirname(parent)) {
    await rmdir(parent).catch(() => undefined); // not empty: somebody else uses it by now
  }
}
