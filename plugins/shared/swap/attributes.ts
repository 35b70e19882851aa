/** Owner, mode, time, extended attributes and inode flags of a folder, through the system's own tools. */
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { childOutput, childResult } from '../primitives/child.js';

/** A text path to an open folder, whatever bytes its name has: children open it through /proc. */
const through = (folder: FileHandle): string => `/proc/${process.pid}/fd/${folder.fd}/.`;

/** XFS shows each ACL a second time under its own name; both change together. */
const xfsAcl = /^trusted\.SGI_ACL_/;

/** Extended attributes by name, values in hex; ACLs too (`system.posix_acl_*`). */
async function attributesOf(path: string): Promise<Map<string, string>> {
  const text = await childOutput('getfattr', ['-d', '-m', '-', '-e', 'hex', '--absolute-names', '--', path]);
  const found = [...text.matchAll(/^([^#=\n]+)=(0x[0-9a-f]*)$/gm)].map(([, name = '', value = '']) => [name, value] as const);
  return new Map(found.filter(([name]) => !xfsAcl.test(name)));
}

async function copyExtended(from: string, to: string): Promise<void> {
  const [wanted, there] = [await attributesOf(from), await attributesOf(to)];
  for (const name of there.keys()) if (!wanted.has(name)) await childOutput('setfattr', ['-x', name, '--', to]);
  for (const [name, value] of wanted) {
    if (there.get(name) !== value) await childOutput('setfattr', ['-n', name, '-v', value, '--', to]);
  }
}

/** Copies owner, mode and extended attributes from one folder to another. */
export async function copyAttributes(from: Buffer, to: Buffer): Promise<void> {
  const source = await open(from, 'r');
  try {
    const target = await open(to, 'r');
    try {
      const { uid, gid, mode } = await source.stat();
      await target.chown(uid, gid);
      await target.chmod(mode & 0o7777);
      await copyExtended(through(source), through(target));
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** A folder's mtime in ns since the epoch. */
export async function timeOf(folder: Buffer): Promise<bigint> {
  return (await lstat(folder, { bigint: true })).mtimeNs;
}

/** Sets mtime with nanoseconds, through touch: Node's own call rounds. */
export async function setTime(folder: Buffer, mtime: bigint): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    const seconds = mtime / 1_000_000_000n - (mtime % 1_000_000_000n < 0n ? 1n : 0n); // rounded down
    const rest = String(mtime - seconds * 1_000_000_000n).padStart(9, '0');
    await childOutput('touch', ['-c', '-m', '-d', `@${seconds}.${rest}`, '--', through(handle)]);
  } finally {
    await handle.close();
  }
}

/** Syncs the file system of a folder or file. */
export async function syncFileSystem(path: Buffer): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await childOutput('sync', ['-f', '--', `/proc/${process.pid}/fd/${handle.fd}`]);
  } finally {
    await handle.close();
  }
}

/** Runs `action`, then gives the folder the mtime that it had. */
export async function keepTime<T>(folder: string, action: () => Promise<T>): Promise<T> {
  const path = Buffer.from(folder);
  const mtime = await timeOf(path);
  try {
    return await action();
  } finally {
    await setTime(path, mtime);
  }
}

/** A path as xargs input: a name may be any bytes, but Node passes arguments as text only. */
const withPath = (path: Buffer) => ({ input: Buffer.concat([path, Buffer.from('\0')]) });

/** Those inode flags of a folder or file that a backup stores (chattr(1)): `i` immutable, `a` append-only, `d` nodump, `C` no
 *  copy-on-write. '' when it has none. */
export async function inodeFlags(path: Buffer): Promise<string> {
  const stats = await lstat(path);
  if (!stats.isDirectory() && !stats.isFile()) return '';
  const said = await childResult('xargs', ['-0', 'lsattr', '-d', '--'], withPath(path));
  const flags = said.code === 0 ? (said.stdout.split(' ')[0] ?? '') : ''; // lsattr fails on file systems without flags
  return flags.replace(/[^iadC]/g, '');
}

/** @param change in chattr's form, `+i` or `-ia`; symlinks are not followed */
async function changeFlags(path: Buffer, change: string): Promise<void> {
  await childOutput('xargs', ['-0', 'chattr', change, '--'], withPath(path));
}

const without = (flags: string, others: string): string => [...flags].filter((one) => !others.includes(one)).join('');

/** Sets exactly these flags of those that a backup stores. */
export async function setInodeFlags(path: Buffer, wanted: string): Promise<void> {
  const there = await inodeFlags(path);
  const [less, more] = [without(there, wanted), without(wanted, there)];
  if (less !== '') await changeFlags(path, `-${less}`);
  if (more !== '') await changeFlags(path, `+${more}`);
}

/** Its inode flags that forbid changes and renames: `i` and `a`. */
export const locksOf = async (path: Buffer): Promise<string> => (await inodeFlags(path)).replace(/[^ia]/g, '');

/** Clears the flags `i` and `a`. @returns those that were set */
export async function unlockPath(path: Buffer): Promise<string> {
  const flags = await locksOf(path);
  if (flags !== '') await changeFlags(path, `-${flags}`);
  return flags;
}

/** Sets the flags that unlockPath cleared. */
export async function lockPath(path: Buffer, flags: string): Promise<void> {
  if (flags !== '') await changeFlags(path, `+${flags}`);
}

/** Runs `action` on a folder or file without its flags `i` and `a`, then sets them again. */
export async function withoutLocks<T>(path: Buffer, action: () => Promise<T>): Promise<T> {
  const flags = await unlockPath(path);
  try {
    return await action();
  } finally {
    await lockPath(path, flags);
  }
}

export const isForbidden = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EPERM';
