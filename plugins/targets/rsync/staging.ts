import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { isAlive, ownerOfThisThread } from '../../shared/primitives/owner.js';
import { gatherChunks, untilAborted } from '../../shared/source.js';

/** Process, thread (earlier versions: only the process), start time. */
const stagePattern = /^stage-(\d+)-(?:(\d+)-)?(\d+)-[0-9a-f]{16}$/;

/** Folder on this appliance in which an open target stages pieces that it sends or reads. */
export class Stage implements AsyncDisposable {
  #folders = 0;
  private constructor(readonly path: string) {}

  /** Makes the folder, and removes the folders of threads that no longer live. */
  static async open(stateFolder: string): Promise<Stage> {
    await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(stateFolder)) {
      const [, pid, thread = pid, started = ''] = stagePattern.exec(name) ?? [];
      if (pid === undefined || isAlive({ task: `${pid}/task/${thread}`, started })) continue;
      await rm(join(stateFolder, name), { recursive: true, force: true });
    }
    const { task, started } = ownerOfThisThread();
    const path = join(stateFolder, `stage-${task.replace('/task/', '-')}-${started}-${randomBytes(8).toString('hex')}`);
    await mkdir(path, { mode: 0o700 });
    return new Stage(path);
  }

  /** Makes a new empty folder, and in it the folders that `parts` name. @throws PluginError */
  async folder(parts: readonly string[] = []): Promise<StageFolder> {
    const path = join(this.path, `${++this.#folders}`);
    await mkdir([path, ...parts].join('/'), { recursive: true, mode: 0o700 }).catch((cause: unknown) =>
      Promise.reject(stageError(path, cause)),
    );
    return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

export interface StageFolder extends AsyncDisposable {
  readonly path: string;
}

/** A piece of the source, in a file on this appliance. */
export interface Piece {
  readonly file: string;
  readonly number: number;
  readonly bytes: number;
  /** Whether it is the last piece. */
  readonly last: boolean;
}

const writeSize = 512 << 10;

/** Splits the source into one file in `folder` per piece; fills the next piece on demand. Gives one piece at least, which may be
 *  empty. After an abort of `signal` no file stays open, even if the source gives no more bytes. @throws PluginError */
export async function* stagePieces(source: Readable, folder: string, size: number, signal: AbortSignal): AsyncGenerator<Piece> {
  const chunks = gatherChunks(source, writeSize);
  let rest: Uint8Array[] = [];
  for (let number = 1; ; number++) {
    const file = `${folder}/${number}`;
    const filled = await fill(file, rest, (path) => untilAborted(chunks.next(), signal, path), size);
    rest = filled.rest;
    yield { file, number, bytes: filled.bytes, last: filled.done };
    if (filled.done) return;
  }
}

interface Filled {
  readonly bytes: number;
  /** Bytes read from the source that are not in the file. */
  readonly rest: Uint8Array[];
  readonly done: boolean;
}

type Chunks = (path: string) => Promise<IteratorResult<Uint8Array[]>>;

/** Writes up to `size` bytes, and finds out whether more follow. */
async function fill(path: string, first: Uint8Array[], chunksOf: Chunks, size: number): Promise<Filled> {
  const file = await create(path);
  try {
    let bytes = 0;
    let rest = first;
    for (;;) {
      const [now, later] = cut(rest, size - bytes);
      await writeAll(file, now, path);
      bytes += lengthOf(now);
      if (later.length > 0) return { bytes, rest: later, done: false };
      const next = await chunksOf(path);
      if (next.done) return { bytes, rest: [], done: true };
      rest = next.value;
    }
  } finally {
    await file.close();
  }
}

const lengthOf = (chunks: readonly Uint8Array[]): number => chunks.reduce((sum, { length }) => sum + length, 0);

/** Splits chunks after the first `size` bytes. */
function cut(chunks: readonly Uint8Array[], size: number): [Uint8Array[], Uint8Array[]] {
  const now: Uint8Array[] = [];
  const later: Uint8Array[] = [];
  let left = size;
  for (const chunk of chunks) {
    if (left > 0) now.push(chunk.subarray(0, left));
    if (chunk.length > left) later.push(chunk.subarray(left));
    left = Math.max(0, left - chunk.length);
  }
  return [now, later];
}

async function create(path: string): Promise<FileHandle> {
  return open(path, 'wx', 0o600).catch((cause: unknown) => Promise.reject(stageError(path, cause)));
}

async function writeAll(file: FileHandle, chunks: readonly Uint8Array[], path: string): Promise<void> {
  let rest = chunks.filter(({ length }) => length > 0);
  while (rest.length > 0) {
    const { bytesWritten } = await file.writev(rest).catch((cause: unknown) => Promise.reject(stageError(path, cause)));
    [, rest] = cut(rest, bytesWritten);
  }
}

/** Turns an error of this appliance's file system into a PluginError. */
export function stageError(path: string, cause: unknown): PluginError {
  if (cause instanceof PluginError) return cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  if (code === 'ENAMETOOLONG') return new PluginError('invalid', 'the path is too long; take shorter names', { cause });
  if (code === 'ENOSPC' || code === 'EDQUOT') return noRoom(path, cause);
  return new PluginError('io', `a piece could not be kept in ${path}: ${code}`, { cause });
}

export function noRoom(path: string, cause: unknown): PluginError {
  const fix = 'free some space on this appliance or lower options.pieceMiB';
  return new PluginError('no_space', `no room for a piece in ${path}; ${fix}`, { cause });
}
