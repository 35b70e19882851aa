/** All files of a household at one moment, and the difference between two moments. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface Entry {
  readonly type: 'folder' | 'file' | 'link';
  readonly rights: string;
  /** ns */
  readonly mtime: bigint;
  readonly content: string;
  readonly inode: string;
}

/** By path. */
export type Files = ReadonlyMap<string, Entry>;

/** Names of the product's own folders and markers. No file of a household has such a name. */
export const isOwn = (name: string): boolean => name.startsWith('.container-backup-');

export interface Look {
  readonly files: Files;
  /** The product's own paths in these folders. */
  readonly own: readonly string[];
}

export function entryOf(path: string): Entry {
  const stat = lstatSync(path, { bigint: true });
  const type = stat.isDirectory() ? 'folder' : stat.isSymbolicLink() ? 'link' : 'file';
  const content = type === 'file' ? readFileSync(path, 'utf8') : type === 'link' ? readlinkSync(path) : '';
  const rights = `${(stat.mode & 0o7777n).toString(8)} ${stat.uid}:${stat.gid}`;
  return { type, rights, mtime: stat.mtimeNs, content, inode: `${stat.dev}:${stat.ino}` };
}

function walk(path: string, key: string, found: Map<string, Entry>, own: string[]): void {
  const entry = entryOf(path);
  found.set(key, entry);
  if (entry.type !== 'folder') return;
  for (const name of readdirSync(path)) {
    if (isOwn(name)) own.push(`${path}/${name}`);
    else walk(`${path}/${name}`, key === '' ? name : `${key}/${name}`, found, own);
  }
}

/** Reads everything in these folders and files, and in mounts inside them. Skips what is absent. */
export function lookInto(paths: readonly string[]): Look {
  const files = new Map<string, Entry>();
  const own: string[] = [];
  for (const path of paths) if (isThere(path)) walk(path, path, files, own);
  return { files, own: own.sort() };
}

/** A tree by relative paths, its top as ''. Empty when it is absent. */
export function treeIn(path: string): Files {
  const files = new Map<string, Entry>();
  if (isThere(path)) walk(path, '', files, []);
  return files;
}

export const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

/** The expected state of a path. */
export interface Wanted {
  readonly entry: Entry;
  /** It was not touched, and not replaced by a file with the same content. */
  readonly same: boolean;
  /** The folder's time differs, because an entry was made or removed in it. */
  readonly anyTime?: boolean;
  /** It is a folder that was made above the copies of a clone. */
  readonly anyFolder?: boolean;
}

function change({ entry, same, anyTime, anyFolder }: Wanted, is: Entry): string[] {
  const found: string[] = [];
  if (anyFolder) return is.type === 'folder' ? [] : [`is a ${is.type} instead of a folder`];
  if (entry.type !== is.type) return [`was a ${entry.type}, is a ${is.type}`];
  if (entry.content !== is.content) found.push(`holds ${JSON.stringify(is.content)} instead of ${JSON.stringify(entry.content)}`);
  if (entry.rights !== is.rights) found.push(`has the rights ${is.rights} instead of ${entry.rights}`);
  if (!anyTime && entry.mtime !== is.mtime) found.push(`has the time ${is.mtime} instead of ${entry.mtime}`);
  if (same && entry.inode !== is.inode) found.push('is another inode');
  return found;
}

/** One line for each path that differs from the expected state. */
export function unlike(wanted: ReadonlyMap<string, Wanted>, is: Files): string[] {
  const found: string[] = [];
  for (const [path, one] of wanted) {
    const there = is.get(path);
    if (there === undefined) found.push(`${path} is gone (${one.same ? 'nobody was to touch it' : 'the run holds it'})`);
    else for (const what of change(one, there)) found.push(`${path} ${what}`);
  }
  for (const path of is.keys()) if (!wanted.has(path)) found.push(`${path} should not be there`);
  return found;
}
