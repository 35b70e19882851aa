/** Ways to break what a run needs. Each returns the function that repairs it. */
import { readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { inFormat2, jsonIn } from '../../support/manifest-file.js';

export type WayBack = () => Promise<unknown>;

/** Renames the path, and back. */
export async function movedAway(path: string): Promise<WayBack> {
  await rename(path, `${path}-away`);
  return () => rename(`${path}-away`, path);
}

/** Copies the file, and restores it whatever happens to it. */
async function keeping(path: string, damage: () => Promise<unknown>): Promise<WayBack> {
  const [before, { atime, mtime }] = [await readFile(path), await stat(path)];
  await damage();
  return async () => {
    await writeFile(path, before);
    await utimes(path, atime, mtime);
  };
}

export function flippedByte(path: string, at = 0.5): Promise<WayBack> {
  return keeping(path, async () => {
    const bytes = await readFile(path);
    const position = Math.floor(bytes.length * at);
    bytes[position] = (bytes[position] ?? 0) ^ 1;
    await writeFile(path, bytes);
  });
}

export function cutShort(path: string, bytes = 1): Promise<WayBack> {
  return keeping(path, async () => truncate(path, (await stat(path)).size - bytes));
}

export const emptied = (path: string): Promise<WayBack> => keeping(path, () => truncate(path, 0));
export const removed = (path: string): Promise<WayBack> => keeping(path, () => rm(path));

/** Writes other JSON into a manifest with a valid hash, as a later version or an attacker would. */
export function rewritten(path: string, change: (json: string) => string): Promise<WayBack> {
  return keeping(path, async () => writeFile(path, inFormat2(change(jsonIn(await readFile(path, 'utf8'))))));
}

/** Mounts a small file system. */
export async function mountedTmpfs(folder: string, size: string): Promise<WayBack> {
  await childOutput('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', folder]);
  return () => childOutput('umount', ['-l', folder]);
}

/** Mounts a folder at a second path, too (bind mount). */
export async function boundMount(from: string, to: string): Promise<WayBack> {
  await childOutput('mount', ['--bind', from, to]);
  return () => childOutput('umount', ['-l', to]);
}

export async function readOnly(folder: string): Promise<WayBack> {
  await childOutput('mount', ['-o', 'remount,ro', folder]);
  return () => childOutput('mount', ['-o', 'remount,rw', folder]);
}
