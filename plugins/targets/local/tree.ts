import type { Dirent } from 'node:fs';
import { constants, lstat, opendir, readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Entry, type ListOptions, PluginError } from '../../../core/contract/index.js';
import { isPart } from '../../shared/paths.js';
import { errorCode, ioError } from './failure.js';
import { Folder, openFolder } from './folder.js';
import { markerName } from './marker.js';

/** The entry of a name. Links are not followed and count as files. */
async function look(folder: Folder, name: string, o: ListOptions = {}): Promise<Entry | undefined> {
  try {
    const found = await lstat(folder.at(name));
    const size = found.isFile() ? found.size : 0;
    return { name, folder: found.isDirectory(), size, ...(o.modified && { modified: found.mtimeMs }) };
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** As look, for a listed entry: readdir already tells a folder, so stat is needed only for times and files. */
async function lookListed(folder: Folder, listed: Dirent, o: ListOptions): Promise<Entry | undefined> {
  return listed.isDirectory() && !o.folderTimes ? { name: listed.name, folder: true, size: 0 } : look(folder, listed.name, o);
}

/** Whether a path does not exist, by one lstat. An existing path is then opened folder by folder, so that no link leads out of the
 *  share. */
async function isAbsent(root: string, parts: readonly string[]): Promise<boolean> {
  try {
    await lstat(join(root, ...parts));
    return false;
  } catch (error) {
    return errorCode(error) === 'ENOENT';
  }
}

/** @throws PluginError */
export async function stat(root: string, parts: readonly string[]): Promise<Entry | undefined> {
  const name = parts.at(-1);
  if (name === undefined) return { name: '', folder: true, size: 0 };
  if (await isAbsent(root, parts)) return undefined;
  try {
    await using folder = await openFolder(root, parts.slice(0, -1));
    return folder === undefined ? undefined : await look(folder, name);
  } catch (error) {
    throw ioError(error, parts.join('/'));
  }
}

/** Lists a folder, without the marker; uploads only on request. */
export async function* list(root: string, parts: readonly string[], o: ListOptions): AsyncGenerator<Entry> {
  try {
    await using folder = await openFolder(root, parts);
    if (folder === undefined) return;
    for await (const listed of await opendir(folder.path, { bufferSize: 1024 })) {
      const { name } = listed;
      if (name === markerName) continue;
      if (isPart(name) && !o.unfinished) continue;
      const entry = await lookListed(folder, listed, o); // undefined when it was removed meanwhile
      if (entry !== undefined) yield isPart(name) ? { ...entry, unfinished: true } : entry;
    }
  } catch (error) {
    throw ioError(error, parts.join('/') || 'the share');
  }
}

/** Removes a file or a tree, with fsync of its folder. Removes links and never follows them. @throws PluginError */
export async function remove(root: string, parts: readonly string[]): Promise<void> {
  const name = parts.at(-1);
  if (name === undefined) throw new PluginError('invalid', 'the top cannot be removed; name a file or folder in it');
  try {
    await using folder = await openFolder(root, parts.slice(0, -1));
    if (folder === undefined) return;
    await removeEntry(folder, name);
    await folder.handle.sync();
  } catch (error) {
    throw ioError(error, parts.join('/'));
  }
}

async function removeEntry(folder: Folder, name: string | Buffer): Promise<void> {
  const path = Buffer.concat([Buffer.from(`${folder.path}/`), Buffer.from(name)]);
  try {
    if (!(await lstat(path)).isDirectory()) return await unlink(path);
    await removeContents(path);
    await rmdir(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** Names are bytes: a name that is not UTF-8 must not prevent the removal of its folder. */
async function removeContents(path: Buffer): Promise<void> {
  await using folder = await Folder.open(path, constants.O_NOFOLLOW);
  for (const name of await readdir(folder.path, { encoding: 'buffer' })) await removeEntry(folder, name);
}
