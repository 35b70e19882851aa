/** Clones of files on file systems that share blocks between files (xfs, btrfs): FICLONE of a whole file takes a millisecond, so a paused
 *  container need not wait until it is read. A clone has no name (O_TMPFILE): it is gone when it is closed, whatever ends this process. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { archiveChild, childExit } from '../../../primitives/child.js';
import { openBeneath } from './beneath.js';
import { type BigFile, hasChanged, statOf } from './big-files.js';

export interface Clone extends AsyncDisposable {
  /** The file as it was cloned. */
  readonly file: BigFile;
  readonly content: FileHandle;
  /** It changed while it was cloned. */
  readonly hasMoved: boolean;
}

/** linux/fs.h: _IOW(0x94, 9, int), the same on x86-64 and ARM64. */
const ficlone = 0x40049409;
/** From fcntl.h; Node has no name for it. It includes O_DIRECTORY. */
const unnamed = 0o20000000 | constants.O_DIRECTORY;
/** Pairs of descriptors for one perl, and files that are cloned in all. */
const mostPairs = 64;
const mostClones = 1024;

/** Descriptors of a source and its clone follow each other from 3 on. Prints a digit for each pair: whether it failed. */
const script = (pairs: number): string => `
for my $n (0 .. ${pairs - 1}) {
  my $clone = 4 + 2 * $n;
  open(my $file, "+<&=", $clone);
  print ioctl($file, ${ficlone}, 3 + 2 * $n) ? 0 : 1;
}`;

interface Pair {
  readonly file: BigFile;
  readonly source: FileHandle;
  readonly content: FileHandle;
}

const openUnnamed = (top: FileHandle): Promise<FileHandle> => open(`/proc/self/fd/${top.fd}`, constants.O_RDWR | unnamed, 0o600);

async function openPair(top: FileHandle, { path }: BigFile): Promise<Pair | undefined> {
  const source = await openBeneath(top, path, constants.O_RDONLY).catch(() => undefined);
  if (source === undefined) return undefined;
  const file = await statOf(source, path);
  // A read-only file system, or one without unnamed files: the file is read where it is.
  const content = file && (await openUnnamed(top).catch(() => undefined));
  if (file && content) return { file, source, content };
  await source.close();
  return undefined;
}

/** @returns for each pair, whether it was cloned */
async function runPerl(pairs: readonly Omit<Pair, 'file'>[], signal: AbortSignal): Promise<readonly boolean[]> {
  const descriptors = pairs.flatMap(({ source, content }) => [source.fd, content.fd]);
  const child = archiveChild('perl', ['-e', script(pairs.length)], ['ignore', 'pipe', 'ignore', ...descriptors]);
  const exit = childExit(child, 'perl', signal);
  let said = '';
  if (child.stdout) for await (const text of child.stdout.setEncoding('latin1')) said += text;
  const isWhole = (await exit) === 0 && said.length === pairs.length;
  return pairs.map((_, n) => isWhole && said[n] === '0');
}

async function cloneSome(top: FileHandle, files: readonly BigFile[], signal: AbortSignal): Promise<Clone[]> {
  const opened = await Promise.all(files.map((file) => openPair(top, file)));
  const pairs = opened.flatMap((pair) => pair ?? []);
  if (pairs.length === 0) return [];
  const isCloned = await runPerl(pairs, signal);
  const clones: Clone[] = [];
  for (const [n, { file, source, content }] of pairs.entries()) {
    const after = isCloned[n] ? await statOf(source, file.path) : undefined;
    await source.close();
    if (after === undefined) await content.close();
    else clones.push({ file, content, hasMoved: hasChanged(file, after), [Symbol.asyncDispose]: () => content.close() });
  }
  return clones;
}

/** Clones files where the file system can. @returns by path; what could not be cloned is missing */
export async function cloneFiles(top: FileHandle, files: readonly BigFile[], signal: AbortSignal): Promise<ReadonlyMap<string, Clone>> {
  const clones = new Map<string, Clone>();
  for (let at = 0; at < Math.min(files.length, mostClones); at += mostPairs) {
    const made = await cloneSome(top, files.slice(at, at + mostPairs), signal);
    for (const clone of made) clones.set(clone.file.path, clone);
    if (made.length === 0) break; // this file system cannot
  }
  return clones;
}

/** Whether the file system clones: tried with the first file. */
export async function canClone(top: FileHandle, files: readonly BigFile[], signal: AbortSignal): Promise<boolean> {
  const clones = await cloneSome(top, files.slice(0, 1), signal);
  for (const clone of clones) await clone[Symbol.asyncDispose]();
  return clones.length > 0;
}

/** Whether the file system clones: tried with two empty files without names. It opens no file of the tree: the clone of a file waits until
 *  what was written to it is on disk, and meanwhile its writer waits too. */
export async function canCloneWithin(top: FileHandle, signal: AbortSignal): Promise<boolean> {
  const opened: FileHandle[] = [];
  try {
    for (let n = 0; n < 2; n++) opened.push(await openUnnamed(top));
    const [source, content] = opened;
    return source !== undefined && content !== undefined && (await runPerl([{ source, content }], signal))[0] === true;
  } catch (error) {
    if (signal.aborted) throw error;
    return false; // a read-only file system, or one without unnamed files
  } finally {
    for (const file of opened) await file.close();
  }
}
