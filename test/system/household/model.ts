/** The expected result of a restore and an undo in a household, by docs/plugins.md: the action and the files of each source. */
import { within } from '../../../plugins/shared/paths.js';
import { type ContainerWish, type Kind, type MountWish, sourceName } from './graph.js';
import type { Entry, Files, Wanted } from './look.js';

/** A folder or file of a container that its job stores. */
export interface Source {
  readonly name: string;
  readonly mount: MountWish;
  /** Host path with its links resolved. */
  readonly path: string;
  /** Whether it is stored. A mount point is not: the archive holds an empty folder for it. */
  isHeld(relative: string): boolean;
  isPoint(relative: string): boolean;
}

/** The files that come to a place: those of a run, or in an undo those from before the restore. */
export interface Coming {
  readonly source: Source;
  readonly path: string;
  readonly held: Files;
  /** The folders above it, with the attributes that they get when they are missing. */
  readonly parents: Files;
}

export interface Run {
  readonly wish: ContainerWish;
  /** Portfolio of the run. */
  readonly portfolio: string;
  readonly running: boolean;
  readonly mounts: readonly RealMount[];
  readonly sources: readonly Omit<Coming, 'path'>[];
  readonly root: Files;
  isRootHeld(relative: string): boolean;
}

/** An anchored pattern of GNU tar: a star matches slashes, too, and an excluded folder is excluded with its content. */
function matcher(pattern: string): (relative: string) => boolean {
  const text = pattern
    .replace(/^\/+/, '')
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*');
  const whole = new RegExp(`^${text}(/.*)?$`);
  return (relative) => relative !== '' && whole.test(relative);
}

/** The part of a tree that a job stores.
 *  @param apart relative paths that are sources of their own, or mount points */
function heldBy(excludes: readonly string[], name: string, apart: readonly string[]): (relative: string) => boolean {
  const tests = excludes.filter((one) => one.startsWith(`${name}:`)).map((one) => matcher(one.slice(name.length + 1)));
  return (relative) => !tests.some((test) => test(relative)) && !apart.some((path) => within(relative, path));
}

/** A mount with the real path of its source. */
export interface RealMount extends MountWish {
  readonly path: string;
}

/** The mounts that are sources. Any other mount is a part of a source: the same folder by another path, or for LXC a folder inside it. */
export function listedMounts(kind: Kind, mounts: readonly RealMount[]): RealMount[] {
  const holds = (outer: RealMount, one: RealMount) => kind === 'lxc' && outer !== one && within(one.host, outer.host);
  const listed: RealMount[] = [];
  for (const one of kind === 'lxc' ? [...mounts].sort((a, b) => Number(b.isVolume) - Number(a.isVolume)) : mounts) {
    if (!listed.some((outer) => outer.path === one.path || holds(outer, one))) listed.push(one);
  }
  return listed.filter((one) => !listed.some((outer) => holds(outer, one)));
}

/** The sources that a job stores. Each folder is one source. A nested folder is a source for Docker, and a part of the outer one for LXC.
 *  @param points all mount points of the host */
export function storedSources(kind: Kind, { exclude }: ContainerWish, mounts: readonly RealMount[], points: readonly string[]): Source[] {
  const listed = listedMounts(kind, mounts);
  return listed.flatMap((mount) => {
    const name = sourceName(kind, mount);
    if (exclude.includes(`volume:${name}`) || exclude.includes(`${name}:*`)) return [];
    const below = (paths: readonly string[]) =>
      paths.filter((path) => path !== mount.path && within(path, mount.path)).map((path) => path.slice(mount.path.length + 1));
    const apart = below(listed.map(({ path }) => path));
    const inner = below(points);
    const isPoint = (relative: string) => inner.includes(relative) && heldBy(exclude, name, apart)(relative);
    return [{ name, mount, path: mount.path, isHeld: heldBy(exclude, name, [...apart, ...inner]), isPoint }];
  });
}

/** The part of the container's own files (below /own) that the job stores. */
export const rootHeld = ({ exclude }: ContainerWish): ((relative: string) => boolean) => {
  const held = heldBy(exclude, 'rootfs', []);
  return (relative) => held(relative === '' ? 'own' : `own/${relative}`);
};

export const heldOf = (tree: Files, isHeld: (relative: string) => boolean): Files => new Map([...tree].filter(([path]) => isHeld(path)));

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** A tree after the restore of `held`. Excluded files stay, with the folders above them. */
export function mixed(held: Files, now: Files, isHeld: (relative: string) => boolean): Map<string, Wanted> {
  const result = new Map<string, Wanted>([...held].map(([path, entry]) => [path, { entry, same: false }]));
  for (const [path, entry] of now) {
    if (isHeld(path)) continue;
    result.set(path, { entry, same: true });
    for (let above = path; above !== ''; ) {
      above = parentOf(above);
      const there = now.get(above);
      const wanted = result.get(above);
      if (there && !wanted) result.set(above, { entry: there, same: true, anyTime: true });
      else if (there && wanted && !wanted.same && there.type === 'folder')
        result.set(above, { ...wanted, entry: { ...wanted.entry, inode: there.inode } });
    }
  }
  return result;
}

const folder: Entry = { type: 'folder', rights: '', mtime: 0n, content: '', inode: '' };

/** Marks the folder above a path as changed. @param made the folders that are made when they are missing; undefined for none */
function foreseeParents(wanted: Map<string, Wanted>, path: string, made: Files | undefined): void {
  const missing: string[] = [];
  let above = parentOf(path);
  for (; above !== '' && !wanted.has(above); above = parentOf(above)) missing.push(above);
  const there = wanted.get(above);
  if (there === undefined) return; // the suite does not compare that folder
  wanted.set(above, { ...there, anyTime: true });
  if (made === undefined) return;
  for (const one of missing) {
    const entry = made.get(one);
    wanted.set(one, { entry: entry ?? folder, same: false, anyTime: true, anyFolder: entry === undefined });
  }
}

/** The household after its sources got other files. `came`: the new files by source.
 *  @param points all mount points */
export function expected(before: Files, came: readonly Coming[], points: readonly string[]): Map<string, Wanted> {
  const wanted = new Map<string, Wanted>([...before].map(([path, entry]) => [path, { entry, same: true }]));
  for (const { source, path, held, parents } of came.toSorted((a, b) => a.path.length - b.path.length)) {
    const now = new Map<string, Entry>();
    for (const [one, entry] of before) if (within(one, path)) now.set(one === path ? '' : one.slice(path.length + 1), entry);
    const after = mixed(held, now, source.isHeld);
    for (const [relative, entry] of held) {
      const there = points.includes(`${path}/${relative}`) ? now.get(relative) : undefined;
      if (there) after.set(relative, { entry: there, same: true });
      else if (source.isPoint(relative)) after.set(relative, { entry, same: false, anyTime: now.has(relative) });
    }
    const top = now.get('');
    const newTop = after.get('');
    if (top?.type === 'folder' && newTop) after.set('', { ...newTop, entry: { ...newTop.entry, inode: top.inode }, same: true });
    for (const one of [...wanted.keys()]) {
      if (within(one, path) && source.isHeld(one === path ? '' : one.slice(path.length + 1))) wanted.delete(one);
    }
    for (const [relative, one] of after) wanted.set(relative === '' ? path : `${path}/${relative}`, one);
    const isQuiet = source.mount.kind === 'folder' && now.size > 0 && after.size > 0;
    if (!isQuiet) foreseeParents(wanted, path, after.size > 0 ? parents : undefined);
  }
  return wanted;
}
