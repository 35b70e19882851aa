/** One folder or file that a restore replaces: where it lies, what takes its place, where what was there is kept. */
import { chmod, chown, lstat, mkdir, readdir, rmdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { PluginError } from '../../../core/contract/index.js';
import { mountPoints } from '../mounts.js';
import { isAbsent, present, realPath } from '../places.js';
import { timeOf } from './attributes.js';
import { type Touched, TouchLog } from './touched.js';

/** Names that begin so are this product's own: drafts, what an undo keeps, a share's marker. A swap leaves them alone. */
export const ownPrefix = '.container-backup-';

/** What every source leaves out, as Source.excludes takes it: our own folders, also those of containers that bind a folder further down. */
export const ownExcludes = [`./${ownPrefix}*`, `./*/${ownPrefix}*`] as const;

/** A folder above a place, as it is to be when it is missing. */
export interface Parent {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** A folder that stays where it is while what it holds is exchanged. Names are bytes written as latin-1: they need not be text. */
export interface PinnedFolder {
  /** Relative to the place; '' for the place itself. */
  readonly path: string;
  /** Entries that come in. */
  readonly enter: readonly string[];
  /** Entries that neither come nor go: what the run leaves out, mount points, and pinned folders. */
  readonly stay: readonly string[];
  /** Its inode flags, as `inodeFlags` gives them, and those that it gets: of the folder that comes in. */
  readonly flags: string;
  readonly builtFlags?: string;
  /** When its content changed last, in ns since the epoch: moving entries changes it. `built`: of the folder that comes in. */
  readonly mtime: string;
  readonly builtMtime: string;
}

/** made: a folder that was made for the draft and filled where it lies · rename: nothing was there, or it is a single file
 *  · contents: a folder keeps its inode, so that everybody who has it mounted sees what comes in
 *  · carry: two folders of an engine, the old one and the new one; what the run leaves out moves along. */
export type Way = 'made' | 'rename' | 'contents' | 'carry';

export interface Place {
  way: Way;
  readonly kind: 'folder' | 'file';
  /** Without links on the way. carry: the old folder. */
  readonly live: string;
  /** What takes its place. carry: the new folder. */
  built: string;
  readonly old: string;
  /** The draft's own folder on the same file system, which holds `built` and `old`; '' for none. */
  readonly scratch: string;
  /** Whether something was at `live` when the swap began. */
  had: boolean;
  /** What the run leaves out, as Source.excludes has it: it stays as it is. */
  readonly excludes: readonly string[];
  /** Missing folders above, outermost first. */
  readonly parents: readonly Parent[];
  /** contents: itself first, then by depth. Found when the swap begins. */
  pinned: readonly PinnedFolder[];
  /** The restore made it, and another container has it by now: an undo leaves it. */
  readonly stays?: boolean;
  /** The folder above that names come to and go from; swaps of entries leave it alone. */
  above?: Above;
  /** What is changed at the moment, and what it is to be again. */
  touched?: readonly Touched[];
}

/** When the content of a folder changed last, ns since the epoch: before a swap, and by it. */
export interface Above {
  readonly path: string;
  readonly before: string;
  readonly after?: string;
}

/** Makes a place's journal durable. */
export type Save = () => Promise<void>;

/** A path below a folder, as bytes. */
export const at = (folder: string, path: string): Buffer =>
  path === '' ? Buffer.from(folder) : Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, 'latin1')]);

/** The parent of a path that is relative to a place. */
export const parentOf = (path: string): string => (path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '');

/** An entry of a folder of a place. */
export const inside = (folder: string, name: string): string => (folder === '' ? name : `${folder}/${name}`);

export async function namesIn(folder: Buffer): Promise<string[]> {
  return (await readdir(folder, { encoding: 'buffer' })).map((name) => name.toString('latin1'));
}

export const toLatin1 = (path: string): string => Buffer.from(path).toString('latin1');

/** A place that is filled where it lies. */
export const newPlaceMade = (live: string): Place => ({
  ...{ way: 'made', kind: 'folder', live, built: live, old: '', scratch: '' },
  ...{ had: false, excludes: [], parents: [], pinned: [] },
});

/** What the run leaves out of an engine's own folder moves from the old one to the new one, and back in an undo. */
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
 *  @param known what they were at the backup. A copy lies elsewhere: from the innermost on, those of the same name are the same */
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

/** The folders above a path as they are, outermost first. */
export async function parentsOf(path: string): Promise<Parent[]> {
  const parents: Parent[] = [];
  for (let above = dirname(path); above !== '/'; above = dirname(above)) {
    const { mode, uid, gid } = await lstat(above);
    parents.unshift({ path: above, mode: mode & 0o7777, uid, gid });
  }
  return parents;
}

/** Decides how `path` will be replaced; makes nothing. A link on the way stays: what it leads to is replaced.
 *  @param id of the draft's folder for it, unique among all drafts
 *  @param known what missing parents were at the backup */
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

/** Makes or removes the draft's folder. A folder that holds its own draft may be immutable, and is so again; one above it that is
 *  immutable is its owner's word that nothing changes there. */
export async function changeScratch(place: Place, save: Save, action: () => Promise<unknown>): Promise<void> {
  const above = dirname(place.scratch);
  await new TouchLog(place, save).keep([Buffer.from(above)], { unlock: above === place.live }, action);
}

/** Makes the folder to fill. Nobody else sees into it meanwhile. */
export async function makeScratch(place: Place, save: Save): Promise<void> {
  if (place.scratch === '') return;
  await changeScratch(place, save, () => mkdir(place.scratch, { mode: 0o700 }));
  await mkdir(fillFolder(place), { mode: 0o700 });
}

/** Makes what is missing above, as it was at the backup. */
export async function makeParents({ parents }: Pick<Place, 'parents'>): Promise<void> {
  for (const { path, mode, uid, gid } of parents) {
    if (await present(path)) continue;
    await mkdir(path);
    await chown(path, uid, gid);
    await chmod(path, mode);
  }
}

/** The closest folder above a path that is there, before names come to it or go from it. */
export async function noteAbove(path: string): Promise<Above> {
  let above = dirname(path);
  while (!(await present(above))) above = dirname(above);
  return { path: above, before: String(await timeOf(Buffer.from(above))) };
}

/** They have come. */
export const noteChange = async (above: Above): Promise<Above> => ({ ...above, after: String(await timeOf(Buffer.from(above.path))) });

/** Does something on the way back that changes the folder above: it has its time from before the swap again, unless somebody else
 *  has changed it since. */
export async function returnAbove(place: Place, save: Save, action: () => Promise<unknown>): Promise<void> {
  const { above } = place;
  if (above === undefined || !(await present(above.path))) return void (await action());
  const folder = Buffer.from(above.path);
  const now = String(await timeOf(folder));
  const isOurs = above.after === undefined || now === above.after;
  await new TouchLog(place, save).keep([folder], { unlock: false, mtime: isOurs ? above.before : now }, action);
}

/** Takes them away again, where nobody uses them by now. */
export async function removeParents({ parents }: Pick<Place, 'parents'>): Promise<void> {
  for (const { path } of parents.toReversed()) {
    try {
      await rmdir(path);
    } catch (error) {
      if (isAbsent(error)) continue; // a crash came before it was made; the one above may be there
      if (error instanceof Error && 'code' in error && ['ENOTEMPTY', 'EBUSY'].includes(String(error.code))) return;
      throw error;
    }
  }
}

/** The one file that the archive brought. @throws PluginError damaged */
export async function oneFile(place: Place): Promise<string> {
  const names = await readdir(fillFolder(place));
  const [name] = names;
  if (name !== undefined && names.length === 1) return `${fillFolder(place)}/${name}`;
  throw new PluginError('damaged', `the archive of ${basename(place.live)} holds ${names.length} entries instead of one`);
}
