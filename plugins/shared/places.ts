import { lstat, readdir, readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { PluginError } from '../../core/contract/index.js';

/** Whether a call of the file system failed since the path leads to nothing. */
export function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

/** Whether something is there; a symbolic link is something. */
export async function present(path: string | Buffer): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

/** Whether something is there that a restore must not write into; an empty folder is free, a file is not. */
export async function isTaken(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length > 0;
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ENOENT');
  }
}

/** The path without links on the way, as far as it is there. A link that leads to nothing is followed: what is to be there is its goal. */
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

/** What may be removed by others while it is looked at: undefined instead of not_found. */
export async function orAbsent<T>(look: Promise<T>): Promise<T | undefined> {
  try {
    return await look;
  } catch (error) {
    if (error instanceof PluginError && error.code === 'not_found') return undefined;
    throw error;
  }
}
