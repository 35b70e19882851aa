/** Owner, mode, time, extended attributes and inode flags of a folder, as the kernel's own tools read and set them. */
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { childOutput, childResult } from '../child.js';

/** The folder by a path that is text, whatever its name is; the children open it through /proc. */
const through = (folder: FileHandle): string => `/proc/${process.pid}/fd/${folder.fd}/.`;

/** XFS shows each ACL by a second name, in its own form; it comes and goes with the first. */
const xfsAcl = /^trusted\.SGI_ACL_/;

/** Extended attributes by name, values in hex; ACLs are among them (`system.posix_acl_*`). */
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

/** Makes a folder's owner, mode and extended attributes those of another. */
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

/** When a folder's content changed last, ns since the epoch. */
export async function timeOf(folder: Buffer): Promise<bigint> {
  return (await lstat(folder, { bigint: true })).mtimeNs;
}

/** Sets it to the nanosecond, which Node's own call cannot. */
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

/** Makes all of a folder's or file's file system durable. */
export async function syncFileSystem(path: Buffer): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await childOutput('sync', ['-f', '--', `/proc/${process.pid}/fd/${handle.fd}`]);
  } finally {
    await handle.close();
  }
}

/** Does something in a folder whose time stays what it was. */
export async function keepTime<T>(folder: string, action: () => Promise<T>): Promise<T> {
  const path = Buffer.from(folder);
  const mtime = await timeOf(path);
  try {
    return await action();
  } finally {
    await setTime(path, mtime);
  }
}

/** A name need not be text, and an argument must be: xargs takes bytes. */
const withPath = (path: Buffer) => ({ input: Buffer.concat([path, Buffer.from('\0')]) });

/** Of a folder's or file's inode flags those that a backup keeps (chattr(1)): `i` immutable, `a` append-only, `d` nodump, `C` no
 *  copy-on-write; '' where there are none. */
export async function inodeFlags(path: Buffer): Promise<string> {
  const stats = await lstat(path);
  if (!stats.isDirectory() && !stats.isFile()) return '';
  const said = await childResult('xargs', ['-0', 'lsattr', '-d', '--'], withPath(path));
  const flags = said.code === 0 ? (said.stdout.split(' ')[0] ?? '') : ''; // file systems without flags say so
  return flags.replace(/[^iadC]/g, '');
}

/** @param change as chattr takes it, `+i` or `-ia`; links are not followed */
async function changeFlags(path: Buffer, change: string): Promise<void> {
  await childOutput('xargs', ['-0', 'chattr', change, '--'], withPath(path));
}

const without = (flags: string, others: string): string => [...flags].filter((one) => !others.includes(one)).join('');

/** Gives a folder or file these flags and, of those that a backup keeps, no others. */
export async function setInodeFlags(path: Buffer, wanted: string): Promise<void> {
  const there = await inodeFlags(path);
  const [less, more] = [without(there, wanted), without(wanted, there)];
  if (less !== '') await changeFlags(path, `-${less}`);
  if (more !== '') await changeFlags(path, `+${more}`);
}

/** Of its inode flags those that forbid to change or rename it, `i` and `a`. */
export const locksOf = async (path: Buffer): Promise<string> => (await inodeFlags(path)).replace(/[^ia]/g, '');

/** Takes them away. @returns those that it had */
export async function unlockPath(path: Buffer): Promise<string> {
  const flags = await locksOf(path);
  if (flags !== '') await changeFlags(path, `-${flags}`);
  return flags;
}

/** Gives back what unlockPath took. */
export async function lockPath(path: Buffer, flags: string): Promise<void> {
  if (flags !== '') await changeFlags(path, `+${flags}`);
}

/** Does something to a folder or file that may be immutable or append-only; it is so again afterwards. */
export async function withoutLocks<T>(path: Buffer, action: () => Promise<T>): Promise<T> {
  const flags = await unlockPath(path);
  try {
    return await action();
  } finally {
    await lockPath(path, flags);
  }
}

export const isForbidden = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EPERM';
