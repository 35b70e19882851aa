/** Finds the big files of a source: those whose blocks are compared, and which tar leaves out. */
import { constants } from 'node:fs';
import { type FileHandle, rm, writeFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { anySignal, PluginError } from '../../../contract/index.js';
import { childExit } from '../../../primitives/child.js';
import { inLanes } from '../../../primitives/lanes.js';
import { type ConfinedTree, confineTool } from '../../level/sandbox.js';
import type { TableEntry } from '../block-table.js';
import { openBeneath } from './beneath.js';

/** A regular file without further hard links. */
export type BigFile = Pick<TableEntry, 'path' | 'size' | 'mtime' | 'ctime' | 'inode' | 'sparse'>;

export interface BigFileSearch {
  readonly tree: ConfinedTree;
  /** Least size, bytes. */
  readonly least: number;
  /** tar's patterns of the source. */
  readonly excludes: readonly string[];
  /** Path for a file of names. */
  readonly list: string;
}

/** Where a search ends before it has seen the whole tree. */
export interface SearchEnd {
  readonly most: number;
  /** Undefined: it takes as long as it takes. */
  readonly until?: AbortSignal;
  /** Whether to add up what the tree takes on its disk. */
  readonly addsUp?: boolean;
}

export interface FoundBigFiles {
  /** In the order of the search. */
  readonly files: readonly BigFile[];
  /** Whether the whole tree was seen. */
  readonly isWhole: boolean;
  /** Allocated bytes of what was seen; 0 unless it was asked for. A sparse file counts as tar reads it, and a hard link as often as it
   *  is there. */
  readonly bytes: number;
}

/** More are left to tar: their table would take too much memory. */
const mostFiles = 100_000;
const fields = 7;
const unit = 512;
/** Node has four threads for calls of the file system. */
const looksAtOnce = 8;
const format = '%p\\0%D\\0%s\\0%T@\\0%C@\\0%i\\0%b\\0';
/** Of all other files, when the whole tree is added up. No path begins so. */
const addedFormat = '+%b\\0';

/** tar reads names to leave out as lines, and cuts blanks from their ends. */
const isExpressible = (path: string): boolean => !/\n|\s$/.test(path);

/** `1700000000.1234567890` in nanoseconds. */
const nanoseconds = (seconds: string): string => seconds.replace('.', '').slice(0, -1);

/** Searches a tree and adds it up. Files with hard links are left to tar, which keeps the links.
 *  @returns files sorted by path @throws PluginError unavailable, failed, aborted */
export async function findBigFiles(search: BigFileSearch, signal: AbortSignal): Promise<Pick<FoundBigFiles, 'files' | 'bytes'>> {
  const { files, bytes } = await lookForBigFiles(search, { most: mostFiles, addsUp: true }, signal);
  return { files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)), bytes };
}

/** Searches a tree as far as it may. @throws PluginError unavailable, failed, aborted */
export async function lookForBigFiles(search: BigFileSearch, end: SearchEnd, signal: AbortSignal): Promise<FoundBigFiles> {
  const found = await largeFiles(search, end, signal);
  return { ...found, files: await withoutExcluded(search, found.files, signal) };
}

/** Looks at files of the level before: they are taken whatever their size, since tar has none of their earlier contents. Those that are
 *  no regular file of one name any more are left out.
 *  @returns in the order of the paths */
export async function statFiles(top: FileHandle, paths: Iterable<string>): Promise<BigFile[]> {
  const { dev } = await top.stat({ bigint: true });
  const found = await inLanes([...paths], looksAtOnce, (path) => statFile(top, path, dev));
  return found.flatMap((file) => file ?? []);
}

/** Ends with 1 when a folder could not be read; what it printed is right. */
function findCommand(least: number, addsUp: boolean): string[] {
  const chosen = ['(', '-path', '.', '-o', '-type', 'f', '-links', '1', '-size', `+${least - 1}c`, ')', '-printf', format];
  return ['find', '.', '-ignore_readdir_race', '-xdev', ...(addsUp ? ['(', ...chosen, ')', '-o', '-printf', addedFormat] : chosen)];
}

async function largeFiles({ tree, least }: BigFileSearch, end: SearchEnd, signal: AbortSignal): Promise<FoundBigFiles> {
  const { most, until, addsUp = false } = end;
  const child = confineTool(tree, findCommand(least, addsUp), ['ignore', 'pipe', 'ignore']);
  const full = new AbortController();
  const exit = childExit(child, 'find', anySignal(signal, full.signal, ...(until ? [until] : [])));
  if (!child.stdout) throw new PluginError('failed', 'find has no output');
  const files: BigFile[] = [];
  let device: string | undefined;
  let blocks = 0;
  const add = (count: number): void => {
    blocks += count;
  };
  for await (const [path = '', dev = '', ...row] of rowsOf(child.stdout, add)) {
    device ??= dev; // of the tree itself, which comes first; a single file may be mounted from another disk
    const file = fileOf(path.slice(2), row);
    if (addsUp) add(Number(row.at(-1)));
    if (path === '.' || dev !== device || !isExpressible(file.path)) continue;
    if (files.length < most) files.push(file);
    else full.abort();
  }
  const code = await exit.catch((error: unknown) => {
    if (signal.aborted || !(full.signal.aborted || until?.aborted)) throw error;
    return 1;
  });
  return { files, isWhole: code === 0 && device !== undefined, bytes: blocks * unit };
}

function fileOf(path: string, [bytes = '', mtime = '', ctime = '', inode = '', blocks = '']: readonly string[]): BigFile {
  const size = Number(bytes);
  return { path, size, inode, sparse: Number(blocks) * unit < size, mtime: nanoseconds(mtime), ctime: nanoseconds(ctime) };
}

/** The rows of files. `add` gets the blocks of all others. */
async function* rowsOf(output: Readable, add: (blocks: number) => void): AsyncGenerator<string[]> {
  let rest = '';
  let row: string[] = [];
  for await (const text of output.setEncoding('latin1')) {
    const parts = `${rest}${text}`.split('\0');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      if (row.length === 0 && part.startsWith('+')) add(Number(part));
      else row.push(part);
      if (row.length < fields) continue;
      yield row;
      row = [];
    }
  }
}

async function statFile(top: FileHandle, path: string, dev: bigint): Promise<BigFile | undefined> {
  try {
    await using file = await openBeneath(top, path, constants.O_RDONLY);
    return (await file.stat({ bigint: true })).dev === dev ? await statOf(file, path) : undefined; // another file may be mounted there
  } catch {
    return undefined; // gone, a symlink, or its folder is
  }
}

/** @returns undefined for what is no regular file of one name */
export async function statOf(file: FileHandle, path: string): Promise<BigFile | undefined> {
  const stat = await file.stat({ bigint: true });
  if (!stat.isFile() || stat.nlink !== 1n) return undefined;
  const { size, mtimeNs, ctimeNs, ino, blocks } = stat;
  const sparse = blocks * 512n < size;
  return { path, size: Number(size), mtime: `${mtimeNs}`, ctime: `${ctimeNs}`, inode: `${ino}`, sparse };
}

/** Whether a file changed between two looks at it. */
export const hasChanged = (before: BigFile, after: BigFile | undefined): boolean =>
  after === undefined || (['size', 'mtime', 'ctime'] as const).some((key) => after[key] !== before[key]);

/** Asks tar itself, since its patterns have many rules. With /dev/null as the archive it reads no file. */
async function withoutExcluded(
  { tree, excludes, list }: BigFileSearch,
  files: readonly BigFile[],
  signal: AbortSignal,
): Promise<BigFile[]> {
  if (files.length === 0 || excludes.length === 0) return [...files];
  await writeFile(list, Buffer.from(['.', ...files.map(({ path }) => `./${path}`), ''].join('\0'), 'latin1'));
  try {
    const patterns = ['--anchored', ...excludes.map((pattern) => `--exclude=${pattern}`), '--no-anchored'];
    const names = ['--null', '--verbatim-files-from', '--no-unquote', '--files-from=/names'];
    const shown = ['--no-recursion', '--verbose', '--quoting-style=literal', '--warning=none'];
    const args = ['--create', '--file=/dev/null', ...shown, ...patterns, ...names];
    const child = confineTool({ ...tree, files: { '/names': list } }, ['tar', ...args], ['ignore', 'pipe', 'ignore']);
    const exit = childExit(child, 'tar', signal);
    let said = '';
    if (child.stdout) for await (const text of child.stdout.setEncoding('latin1')) said += text;
    const code = await exit; // a file that was removed meanwhile makes it end with 2
    const kept = new Set(said.split('\n'));
    if (!kept.has('./')) throw new PluginError('failed', `tar did not tell which big files are excluded; it ended with ${code}`);
    return files.filter(({ path }) => kept.has(`./${path}`));
  } finally {
    await rm(list, { force: true });
  }
}
