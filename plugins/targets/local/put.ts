import { constants, type FileHandle, link, lstat, open, rename, unlink } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { partName } from '../../shared/paths.js';
import { abortError, gatherChunks, untilAborted } from '../../shared/source.js';
import { errorCode, ioError } from './failure.js';
import { type Folder, makeFolder, unmakeFolders } from './folder.js';

/** Bytes between two fdatasyncs: bounds dirty memory and the time of the last fsync. */
const syncEvery = 64 << 20;
/** Bytes of one writev; a pipe gives only 64 KiB at a time. */
const writeSize = 1 << 20;

export interface PutOptions {
  readonly signal: AbortSignal;
  readonly replace: boolean;
}

interface Upload {
  readonly folder: Folder;
  readonly made: number;
  readonly temp: string;
  readonly file: FileHandle;
}

/** Stores `source` as the file that `parts` name under `root`, or nothing. On failure the caller must destroy the source, which
 *  also ends the loop that still reads it. @throws PluginError */
export async function put(root: string, parts: readonly string[], source: Readable, o: PutOptions): Promise<{ bytes: number }> {
  const name = parts.at(-1);
  if (name === undefined) throw new PluginError('invalid', 'a file needs a name');
  if (o.signal.aborted) throw abortError(parts.join('/'));
  const parents = parts.slice(0, -1);
  const upload = await begin(root, parents);
  try {
    await refuseTaken(upload.folder, name, o.replace);
    const bytes = await untilAborted(copy(source, upload.file, o.signal), o.signal, parts.join('/'));
    await commit(upload, name, o.replace);
    await upload.file.close();
    await upload.folder.handle.sync();
    await upload.folder.handle.close();
    return { bytes };
  } catch (error) {
    await undo(upload, root, parents);
    throw ioError(error, parts.join('/'));
  }
}

/** Opens the upload. Retries, because another put that fails may remove the folder that this one just found. */
async function begin(root: string, parents: readonly string[]): Promise<Upload> {
  const temp = partName();
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  for (let tries = 5; ; tries--) {
    let parent: Awaited<ReturnType<typeof makeFolder>> | undefined;
    try {
      parent = await makeFolder(root, parents);
      return { ...parent, temp, file: await open(parent.folder.at(temp), flags, 0o644) };
    } catch (error) {
      await parent?.folder.handle.close();
      await unmakeFolders(root, parents, parent?.made ?? 0);
      if (errorCode(error) !== 'ENOENT' || tries === 0) throw ioError(error, parents.join('/') || 'the share');
    }
  }
}

async function refuseTaken(folder: Folder, name: string, replace: boolean): Promise<void> {
  const there = await lstat(folder.at(name)).catch((error) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (there === undefined) return;
  if (!replace) throw new PluginError('exists', `${name} is already there`);
  if (there.isDirectory()) throw new PluginError('exists', `${name} is a folder; a file cannot replace it`);
}

/** Writes all chunks; writev may write only a part of them. */
async function writeAll(file: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  let rest = chunks.filter(({ length }) => length > 0);
  while (rest.length > 0) {
    let { bytesWritten } = await file.writev(rest);
    const left: Uint8Array[] = [];
    for (const chunk of rest) {
      if (bytesWritten < chunk.length) left.push(chunk.subarray(bytesWritten));
      bytesWritten = Math.max(0, bytesWritten - chunk.length);
    }
    rest = left;
  }
}

/** Writes the source to the file as it comes. */
async function copy(source: Readable, file: FileHandle, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  let synced = 0;
  let syncing: Promise<void> = Promise.resolve();
  for await (const chunks of gatherChunks(source, writeSize)) {
    if (signal.aborted) return bytes; // untilAborted has already rejected
    await writeAll(file, chunks);
    bytes += chunks.reduce((sum, { length }) => sum + length, 0);
    if (bytes - synced < syncEvery) continue;
    synced = bytes;
    await syncing;
    syncing = file.datasync();
    syncing.catch(() => undefined); // awaited a round later
  }
  await syncing;
  if (!signal.aborted) await file.sync();
  return bytes;
}

/** Renames the upload to its final name. */
async function commit({ folder, temp }: Upload, name: string, replace: boolean): Promise<void> {
  if (replace) return rename(folder.at(temp), folder.at(name));
  try {
    await link(folder.at(temp), folder.at(name)); // link, unlike rename, never replaces a file that came meanwhile
  } catch (error) {
    if (errorCode(error) === 'EEXIST') throw error;
    // no hard links on this file system: check again, then rename
    await refuseTaken(folder, name, false);
    return rename(folder.at(temp), folder.at(name));
  }
  await unlink(folder.at(temp));
}

/** Removes the upload and the folders made for it. Closes the file without waiting, because a hanging write must not delay an abort. */
async function undo(upload: Upload, root: string, parents: readonly string[]): Promise<void> {
  await unlink(upload.folder.at(upload.temp)).catch(() => undefined);
  upload.file.close().catch(() => undefined);
  await upload.folder.handle.close().catch(() => undefined);
  await unmakeFolders(root, parents, upload.made).catch(() => undefined);
}
