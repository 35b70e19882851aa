/** One folder or file that a restore replaces: its live path, the path of the new one, the path of the old one. */
import { chmod, chown, lstat, mkdir, readdir, rmdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { PluginError } from '../../../core/contract/index.js';
import { mountPoints } from '../mounts.js';
import { isAbsent, present, realPath } from '../presence.js';
import { timeOf } from './attributes.js';
import { type Touched, TouchLog } from './touched.js';

/** Prefix of this product's own names: drafts, files stored for an undo, a share's marker. A swap never moves them. */
export const ownPrefix = '.container-backup-';

/** Excludes of every source: this product's own folders, also of containers that bind a folder one level down. */
export const ownExcludes = [`./${ownPrefix}*`, `./*/${ownPrefix}*`] as const;

/** A missing folder above a place, with the mode and owner to give it. */
export interface Parent {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** A folder that stays while its entries are exchanged. Names are bytes as latin-1, since they need not be text. */
export interface PinnedFolder {
  /** Relative to the place; '' for the place itself. */
  readonly path: string;
  /** Entries to move in. */
  readonly enter: readonly string[];
  /** Entries that do not move: excluded paths, mount points and pinned folders. */
  readonly stay: readonly string[];
  /** Its inode flags (see `inodeFlags`) before the swap, and those of the new folder, which it gets. */
  readonly flags: string;
  readonly builtFlags?: string;
  /** mtime in ns since the epoch, before the swap and of the new folder: moving entries changes it. */
  readonly mtime: string;
  readonly builtMtime: string;
}

/** made: a folder made for the draft and filled directly · rename: nothing existed, or it is a single file · contents: a folder
 *  that keeps its inode, so that every mount of it shows the new entries · carry: an engine's old and new folder; excluded paths
 *  move from one to the other. */
export type Way = 'made' | 'rename' | 'contents' | 'carry';

export interface Place {
  way: Way;
  readonly kind: 'folder' | 'file';
  /** Path without symlinks. carry: the old folder. */
  readonly live: string;
  /** The path that replaces it. carry: the new folder. */
  built: string;
  readonly old: string;
  /** The draft's own folder on the same file system, with `built` and `old` in it; '' for none. */
  readonly scratch: string;
  /** Whether something was at `live` when the swap began. */
  had: boolean;
  /** Patterns that the run excludes, as in Source.excludes: their paths stay. */
  readonly excludes: readonly string[];
  /** Missing folders above, outermost first. */
  readonly parents: readonly Parent[];
  /** contents: the place itself first, then by depth. Set when the swap begins. */
  pinned: readonly PinnedFolder[];
  /** The restore made it and another container uses it by now: an undo leaves it. */
  readonly stays?: boolean;
  /** The parent folder whose mtime a rename changes; unset for an exchange of entries. */
  above?: Above;
  /** Temporary changes in progress, and the state to give back. */
  touched?: readonly Touched[];
}

/** A folder's mtime in ns since the epoch, before the swap and after it. */
export interface Above {
  readonly path: string;
  readonly before: string;
  readonly after?: string;
}

/** Makes a place's journal durable. */
export type Save = () => Promise<void>;

/** A path below a folder as bytes. */
export const at = (folder: string, path: string): Buffer =>
  path === '' ? Buffer.from(folder) : Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, 'latin1')]);

/** The parent of a path relative to a place. */
export const parentOf = (path: string): string => (path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '');

/** The path of an entry in a folder of a place. */
export const inside = (folder: string, name: string): string => (folder === '' ? name : `${folder}/${name}`);

export async function namesIn(folder: Buffer): Promise<string[]> {
  return (await readdir(folder, { encoding: 'buffer' })).map((name) => name.toString('latin1'));
}

export const toLatin1 = (path: string): string => Buffer.from(path).toString('latin1');

/** A place that is filled directly. */
export const newPlaceMade = (live: string): Place => ({
  ...{ way: 'made', kind: 'folder', live, built: live, old: '', scratch: '' },
  ...{ had: false, excludes: [], parents: [], pinned: [] },
});

/** A place that moves excluded paths from an engine's old folder to the new one, and back in an undo. */
export const carryPlace = (from: string, to: string, excludes: readonly string[]): Place => ({
  ...{ way: 'carry', kind: 'folder', live: from, built: to, old: '', scratch: '' },
  ...{ had: true, excludes, parents: [], pinned: [] },
});

async function isOwnFileSystem(live: string, above: string): Promise<boolean> {
  const [own, parent] = await Promise.all([lstat(live), lstat(above)]);
  if (own.dev !== parent.dev) return true; // a mount, or a subvolume of btrfs
  return (await mountPoints()).includes(live); // a bind mount of the same file system has the same device
}

/** The missing folders above a path, outermost first.
 *  @param known modes and owners at the backup. For a copy elsewhere, known folders count from the innermost on while names
 *  match */
export async function planParents(path: string, known: readonly Parent[] = []): Promise<Parent[]> {
  const parents: Parent[] = [];
  let same = known.toReversed();
  for (let above = dirname(path); !(await present(above)); above = dirname(above)) {
    const [next, ...rest] = same;
    const isSame = next !== undefined && basename(next.path) === basename(above);
    same = isSame ? rest : [];
    const was = known.find((one) => one.path === above) ?? (isSame ? next : plainParent);
    parents.unshift({ ...was, path: above });
  }
  return parents;
}

const plainParent: Omit<Parent, 'path'> = { mode: 0o755, uid: 0, gid: 0 };

/** The folders above a path with mode and owner, outermost first. */
export async function parentsOf(path: string): Promise<Parent[]> {
  const parents: Parent[] = [];
  for (let above = dirname(path); above !== '/'; above = dirname(above)) {
    const { mode, uid, gid } = await lstat(above);
    parents.unshift({ path: above, mode: mode & 0o7777, uid, gid });
  }
  return parents;
}

/** Decides how to replace `path`; makes nothing. A symlink in the path stays; the folder that it points to is replaced.
 *  @param id of the draft's folder for it, unique among all drafts
 *  @param known missing parents at the backup */
export async function planPlace(
  path: string,
  kind: 'folder' | 'file',
  o: { readonly id: string; readonly excludes?: readonly string[]; readonly known?: readonly Parent[] },
): Promise<Place> {
  const live = await realPath(path);
  const had = await present(live);
  const parents = await planParents(live, o.known);
  const above = dirname(parents[0]?.path ?? live);
  const inside = had && kind === 'folder' && (await isOwnFileSystem(live, above));
  const scratch = `${inside ? live : above}/${ownPrefix}${o.id}`;
  const way = had && kind === 'folder' ? 'contents' : 'rename';
  const { excludes = [] } = o;
  return { way, kind, live, built: `${scratch}/new`, old: `${scratch}/old`, scratch, had, excludes, parents, pinned: [] };
}

/** The folder that the caller fills. */
export const fillFolder = ({ way, live, scratch }: Place): string => (way === 'made' ? live : `${scratch}/new`);

/** Makes or removes the draft's folder. If that folder lies inside the place, the place is unlocked for it and locked again. An
 *  immutable folder above the place is never unlocked: its owner wants no change there. */
export async function changeScratch(place: Place, save: Save, action: () => Promise<unknown>): Promise<void> {
  const above = dirname(place.scratch);
  await new TouchLog(place, save).keep([Buffer.from(above)], { unlock: above === place.live }, action);
}

/** Makes the folder to fill. Mode 0700: no other user can read it. */
export async function makeScratch(place: Place, save: Save): Promise<void> {
  if (place.scratch === '') return;
  await changeScratch(place, save, () => mkdir(place.scratch, { mode: 0o700 }));
  await mkdir(fillFolder(place), { mode: 0o700 });
}

/** Makes the missing folders above, with mode and owner of the backup. */
export async function makeParents({ parents }: Pick<Place, 'parents'>): Promise<void> {
  for (const { path, mode, uid, gid } of parents) {
    if (await present(path)) continue;
    await mkdir(path);
    await chown(path, uid, gid);
    await chmod(path, mode);
  }
}

/** The closest existing folder above a path and its mtime before the swap. */
export async function noteAbove(path: string): Promise<Above> {
  let above = dirname(path);
  while (!(await present(above))) above = dirname(above);
  return { path: above, before: String(await timeOf(Buffer.from(above))) };
}

/** The same with its mtime after the swap. */
export const noteChange = async (above: Above): Promise<Above> => ({ ...above, after: String(await timeOf(Buffer.from(above.path))) });

/** Runs a step of a revert, then gives the folder above its mtime from before the swap, unless another process has changed the
 *  folder since. */
export async function returnAbove(place: Place, save: Save, action: () => Promise<unknown>): Promise<void> {
  const { above } = place;
  if (above === undefined || !(await present(above.path))) return void (await action());
  const folder = Buffer.from(above.path);
  const now = String(await timeOf(folder));
  const isOurs = above.after === undefined || now === above.after;
  await new TouchLog(place, save).keep([folder], { unlock: false, mtime: isOurs ? above.before : now }, action);
}

/** Removes those folders again where they are empty. */
export async function removeParents({ parents }: Pick<Place, 'parents'>): Promise<void> {
  for (const { path } of parents.toReversed()) {
    try {
      await rmdir(path);
    } catch (error) {
      if (isAbsent(error)) continue; // a crash came before this one was made; check the one above
      if (error instanceof Error && 'code' in error && ['ENOTEMPTY', 'EBUSY'].includes(String(error.code))) return;
      throw error;
    }
  }
}

/** Path of the one file that the archive contained. @throws PluginError damaged */
export async function oneFile(place: Place): Promise<string> {
  const names = await readdir(fillFolder(place));
  const [name] = names;
  if (name !== undefined && names.length === 1) return `${fillFolder(place)}/${name}`;
  throw new PluginError('damaged', `the archive of ${basename(place.live)} holds ${names.length} entries instead of one`);
}
