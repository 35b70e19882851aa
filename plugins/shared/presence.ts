import { lstat, readdir, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { PluginError } from '../../core/contract/index.js';

/** Whether a file system call failed because the path does not exist. */
export function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

/** Whether the path exists; a symlink counts, dangling or not. */
export async function present(path: string | Buffer): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

/** Whether the path holds something that a restore must not overwrite: a file or a folder with entries. */
export async function isTaken(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length > 0;
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ENOENT');
  }
}

/** The path with symlinks resolved as far as it exists. A dangling link is followed to its missing target. */
export async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!isAbsent(error) || path === '/') throw error;
    const above = await realPath(dirname(path));
    const here = join(above, basename(path));
    const isLink = (await present(here)) && (await lstat(here)).isSymbolicLink();
    return isLink ? realPath(resolve(above, await readlink(here))) : here;
  }
}

/** undefined instead of not_found, for things that others may remove during the call. */
export async function orAbsent<T>(look: Promise<T>): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    if (error instanceof PluginError && error.code === 'not_found') return undefined;
    throw error;
  }
}
