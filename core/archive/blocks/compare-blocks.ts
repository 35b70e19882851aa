/** Reads the big files that may have changed, and gives the blocks that differ from the level before. */
import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { readWhole } from '../../primitives/whole-bytes.js';
import { blockBytesOf, hashBlock, hashBytes } from './block-hash.js';
import type { BlockTable, NewEntry, TableEntry, TableWriter } from './block-table.js';
import { openBeneath } from './files/beneath.js';
import { type BigFile, hasChanged, statOf } from './files/big-files.js';
import { type Clone, cloneFiles } from './files/clones.js';
import { findHoles, type Hole } from './files/holes.js';

export interface Comparison {
  /** The source's folder. */
  readonly top: FileHandle;
  /** Sorted. */
  readonly files: readonly BigFile[];
  /** Files as the level before left them; undefined for a base. */
  readonly before: BlockTable | undefined;
  readonly table: TableWriter;
  /** Epoch ms, noted before the file system was synced, or when the container was paused. A change by a mapping in memory changes the
   *  times of a file only if its pages were written back since the last one. So times after this moment prove nothing. */
  readonly reference: number;
  /** Whether a container is paused: then files are cloned where that is possible, and read after `settled`. */
  readonly clones?: boolean;
  readonly signal: AbortSignal;
}

/** What a pass found in a file. */
export type BlockEvent =
  /** The file is new, or nothing of it is known: its content starts as `size` zeros. */
  | { readonly kind: 'new'; readonly path: string }
  /** Bytes that differ. Valid until the next event is asked for. */
  | { readonly kind: 'blocks'; readonly path: string; readonly offset: number; readonly bytes: Buffer }
  /** All holes of a file that is sparse, or was. */
  | { readonly kind: 'holes'; readonly path: string; readonly holes: readonly Hole[] }
  /** The file is read: its blocks or its attributes may differ. */
  | ({ readonly kind: 'end'; readonly moved: Moved } & Pick<TableEntry, 'path' | 'size' | 'digest' | 'block_bytes'>)
  /** What is still to be read are clones: nothing of the source is needed any more. Comes once. */
  | { readonly kind: 'settled'; readonly cloned: readonly { readonly file: BigFile; readonly moved: Moved }[] }
  /** The level before has blocks of the file, and this one has none: it is gone, or tar has it. */
  | { readonly kind: 'gone'; readonly path: string; readonly moved: Moved };

/** Whether a file changed while it was read, or after the reference, or not. */
export type Moved = 'reading' | 'before' | 'no';

/** A change so many ms after another one has another ctime, on any file system: kernels stamp with a coarse clock. */
const stampMs = 2000;
/** Bytes of one read, and of the largest run of blocks that is given at once. */
const readBytes = 1 << 20;

/** Whether a file is as a table says, for certain. */
export const isUnchanged = (file: BigFile, entry: TableEntry | undefined): entry is TableEntry =>
  entry !== undefined &&
  entry.unproven === undefined &&
  (['size', 'mtime', 'ctime', 'inode'] as const).every((key) => file[key] === entry[key]);

/** Compares all files and writes the table of this level. */
export async function* compareBlocks(o: Comparison): AsyncGenerator<BlockEvent> {
  const changed: BigFile[] = [];
  for (const file of o.files) {
    const entry = o.before?.entries.get(file.path);
    if (o.before && isUnchanged(file, entry)) o.table.inherit(entry, o.before);
    else changed.push(file);
  }
  const clones = o.clones ? await cloneFiles(o.top, changed, o.signal) : new Map<string, Clone>();
  try {
    for (const { path } of changed) if (!clones.has(path)) yield* compareInPlace(o, path);
    yield* goneFiles(o, clones);
    yield { kind: 'settled', cloned: [...clones.values()].map(({ file, hasMoved }) => ({ file, moved: movedWhen(hasMoved, file, o) })) };
    for (const { file, content } of clones.values()) yield* compareFile(o, file, content);
  } finally {
    for (const clone of clones.values()) await clone[Symbol.asyncDispose]();
  }
}

function* goneFiles({ files, before, table }: Comparison, clones: ReadonlyMap<string, Clone>): Generator<BlockEvent> {
  const found = new Set(files.map(({ path }) => path));
  for (const path of before?.entries.keys() ?? [])
    if (!table.has(path) && !clones.has(path)) yield { kind: 'gone', path, moved: found.has(path) ? 'reading' : 'no' };
}

async function* compareInPlace(o: Comparison, path: string): AsyncGenerator<BlockEvent> {
  const handle = await openBeneath(o.top, path, constants.O_RDONLY).catch(() => undefined);
  if (handle === undefined) return; // removed meanwhile: the next level notices
  await using opened = handle;
  const file = await statOf(opened, path);
  if (file) yield* compareFile(o, file, opened, async () => hasChanged(file, await statOf(opened, path)));
}

/** @param hasMoved asked when the file is read; a clone does not move */
async function* compareFile(
  o: Comparison,
  file: BigFile,
  opened: FileHandle,
  hasMoved: () => Promise<boolean> = async () => false,
): AsyncGenerator<BlockEvent> {
  const { path } = file;
  const entry = o.before?.entries.get(path);
  const blockBytes = blockBytesOf(file.size, entry?.block_bytes);
  const old = entry && o.before && entry.block_bytes === blockBytes ? await o.before.hashes(entry) : undefined;
  if (old === undefined) yield { kind: 'new', path };
  const hashes = new HashList(file.size, blockBytes);
  const holes = file.sparse || entry?.sparse ? await findHoles(opened, o.signal) : undefined;
  yield* differences({ ...o, path, opened, old, hashes, holes: holes ?? [] });
  if (holes) yield { kind: 'holes', path, holes };
  const moved = movedWhen(await hasMoved(), file, o);
  const isProven = moved === 'no' && stampOf(file) < o.reference - stampMs;
  const read: NewEntry = { ...file, size: hashes.bytes, block_bytes: blockBytes, ...(isProven ? {} : { unproven: true }) };
  const digest = await o.table.add(read, hashes.list());
  yield { kind: 'end', path, size: hashes.bytes, digest, block_bytes: blockBytes, moved };
}

/** Epoch ms of the last change. */
const stampOf = ({ ctime }: BigFile): number => Number(ctime.slice(0, -6));

function movedWhen(hasMoved: boolean, file: BigFile, { reference }: Comparison): Moved {
  if (hasMoved) return 'reading';
  return stampOf(file) > reference ? 'before' : 'no';
}

/** The hashes of a file while it is read: one buffer, since a file may have half a million blocks. */
class HashList {
  #hashes: Buffer;
  #count = 0;
  bytes = 0;

  constructor(
    expected: number,
    readonly blockBytes: number,
  ) {
    this.#hashes = Buffer.allocUnsafe((Math.ceil(expected / blockBytes) + 1) * hashBytes);
  }

  add(hash: Buffer, bytes: number): void {
    const at = this.#count * hashBytes;
    if (at === this.#hashes.length) this.#hashes = Buffer.concat([this.#hashes], at * 2); // it grows while it is read
    hash.copy(this.#hashes, at);
    this.#count++;
    this.bytes += bytes;
  }
  list(): Buffer {
    return this.#hashes.subarray(0, this.#count * hashBytes);
  }
}

interface OneFile extends Comparison {
  readonly path: string;
  readonly opened: FileHandle;
  readonly old: Buffer | undefined;
  readonly hashes: HashList;
  /** Ranges that are not read. */
  readonly holes: readonly Hole[];
}

async function* differences(o: OneFile): AsyncGenerator<BlockEvent> {
  const { path, opened, old, hashes, signal } = o;
  const { blockBytes } = hashes;
  const inHole = holeFinder(o.holes);
  const zeros = hashBlock(Buffer.alloc(blockBytes));
  let number = 0;
  for await (const { offset, bytes } of readAhead(opened, { length: Math.max(readBytes, blockBytes), holes: o.holes, signal })) {
    let start: number | undefined; // of a run of blocks that differ
    for (let at = 0; at < bytes.length; at += blockBytes, number++) {
      const block = bytes.subarray(at, at + blockBytes);
      const isHole = inHole(offset + at, offset + at + block.length);
      const hash = isHole && block.length === blockBytes ? zeros : hashBlock(block);
      hashes.add(hash, block.length);
      if (!isHole && !old?.subarray(number * hashBytes, (number + 1) * hashBytes).equals(hash)) start ??= at;
      else if (start !== undefined) {
        yield { kind: 'blocks', path, offset: offset + start, bytes: bytes.subarray(start, at) };
        start = undefined;
      }
    }
    if (start !== undefined) yield { kind: 'blocks', path, offset: offset + start, bytes: bytes.subarray(start) };
  }
}

/** Tells whether a range lies in a hole. Ranges must be asked for in ascending order of their starts, or from the first again. */
function holeFinder(holes: readonly Hole[]): (start: number, end: number) => boolean {
  let at = 0;
  return (start, end) => {
    if ((holes[at - 1]?.end ?? 0) > start) at = 0;
    while ((holes[at]?.end ?? Number.POSITIVE_INFINITY) <= start) at++;
    const hole = holes[at];
    return hole !== undefined && hole.start <= start && end <= hole.end;
  };
}

interface ReadPlan {
  readonly length: number;
  readonly holes: readonly Hole[];
  readonly signal: AbortSignal;
}

/** Reads a file to its end in pieces of `length`, the next one while the caller works on this one. A piece in a hole is not read. */
async function* readAhead(file: FileHandle, { length, holes, signal }: ReadPlan): AsyncGenerator<{ offset: number; bytes: Buffer }> {
  const buffers = [Buffer.allocUnsafe(length), Buffer.allocUnsafe(length)] as const;
  const zeros = holes.length > 0 ? Buffer.alloc(length) : buffers[0];
  const inHole = holeFinder(holes);
  const read = async (number: number) => {
    const start = number * length;
    if (inHole(start, start + length)) return zeros;
    return readWhole(file, buffers[number % 2 === 0 ? 0 : 1], start);
  };
  let next = read(0);
  for (let number = 0; ; number++) {
    const bytes = await next;
    if (bytes.length < length) {
      if (bytes.length > 0) yield { offset: number * length, bytes };
      return;
    }
    signal.throwIfAborted();
    next = read(number + 1);
    next.catch(() => undefined); // awaited after the yield
    yield { offset: number * length, bytes };
  }
}
