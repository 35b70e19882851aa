import { type FileHandle, open, rm, stat as statFile, truncate, writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal, PluginError } from '../../../core/contract/index.js';
import { pastEnd } from '../../shared/paths.js';
import { abortError } from '../../shared/source.js';
import type { Looked, RemoteFolder } from './folder.js';
import { pieceName, suffix, type Whole } from './pieces.js';
import { stageError } from './staging.js';

const chunk = 256 << 10;

export interface GetOptions {
  readonly signal: AbortSignal;
  readonly offset?: number;
  readonly length?: number;
}

/** One download: bytes `from` to `to` of the file `path`, of which `start` to `end` are wanted. */
interface Part {
  readonly path: string;
  readonly from: number;
  readonly to: number;
  /** The file's expected size; undefined for any. */
  readonly size: number | undefined;
  readonly start: number;
  readonly end: number;
}

/** Reads a file. Resolves once the first part is on this appliance. No more than two parts are here at a time, running downloads
 *  included. @throws PluginError not_found, invalid, damaged, aborted */
export async function get(remote: RemoteFolder, parts: readonly string[], o: GetOptions & { pieceBytes: number }): Promise<Readable> {
  const { offset = 0, length = Number.POSITIVE_INFINITY } = o;
  if (!(offset >= 0 && length >= 0)) throw new PluginError('invalid', 'offset and length must not be negative');
  if (o.signal.aborted) throw abortError(parts.join('/'));
  // retry: between look and download the file may be removed, or replaced by one in pieces or whole
  for (let tries = 3; ; tries--) {
    const found = await remote.look(parts, o.signal, { sizes: true });
    const wanted = partsFor(parts, found, { offset, length, pieceBytes: o.pieceBytes });
    try {
      return await Reader.open(remote, parts.join('/'), wanted, o.signal);
    } catch (error) {
      if (!(error instanceof PluginError) || error.code !== 'not_found' || tries === 0) throw error;
    }
  }
}

interface Range {
  readonly offset: number;
  readonly length: number;
  readonly pieceBytes: number;
}

/** @throws PluginError not_found, invalid, damaged */
function partsFor(parts: readonly string[], { plain, pieces }: Looked, range: Range): Part[] {
  const path = parts.join('/');
  if (plain !== undefined) {
    if (plain.kind !== 'file') throw new PluginError('invalid', `${path} is not a regular file`);
    refuseOffset(range.offset, plain.size, path);
    return plainParts(path, plain.size, range);
  }
  const whole = pieces?.whole;
  if (pieces === undefined || whole === undefined) throw new PluginError('not_found', `${path} is not there`);
  refuseOffset(range.offset, whole.bytes, path);
  return pieceParts(path, whole, (number) => pieces.size(whole.generation, number), range);
}

/** @throws PluginError invalid, beyond the end of the file */
function refuseOffset(offset: number, size: number, path: string): void {
  const wrong = pastEnd(offset, size, path);
  if (wrong !== undefined) throw wrong;
}

/** A file of one piece at most is downloaded whole, even if it was replaced meanwhile. A larger one, which another program stored,
 *  is downloaded in ranges of a piece. */
function plainParts(path: string, size: number, { offset, length, pieceBytes }: Range): Part[] {
  const end = offset + length;
  if (size <= pieceBytes) return length === 0 ? [] : [{ path, from: 0, to: size, size: undefined, start: offset, end }];
  const found: Part[] = [];
  const stop = Math.min(size, end);
  for (let from = offset; from < stop; from += pieceBytes) {
    const to = Math.min(stop, from + pieceBytes);
    found.push({ path, from, to, size, start: from, end: to });
  }
  return found;
}

/** @throws PluginError damaged */
function pieceParts(path: string, whole: Whole, sizeOf: (number: number) => number | undefined, { offset, length }: Range): Part[] {
  const found: Part[] = [];
  let at = 0;
  for (let number = 1; number <= whole.count; number++) {
    const size = sizeOf(number);
    if (size === undefined) throw new PluginError('damaged', `${path}: piece ${number} of ${whole.count} is missing on the server`);
    const start = Math.max(0, offset - at);
    const end = Math.min(size, offset + length - at);
    if (start < end) found.push({ path: `${path}${suffix}/${pieceName(whole.generation, number)}`, from: 0, to: size, size, start, end });
    at += size;
  }
  if (at === whole.bytes) return found;
  throw new PluginError('damaged', `${path}: its pieces have ${at} bytes instead of ${whole.bytes}; they were changed on the server`);
}

/** A downloaded part. */
interface Fetched {
  readonly file: FileHandle;
  readonly path: string;
  at: number;
  readonly end: number;
}

class Reader {
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #next = 0;
  #current: Fetched | undefined;
  #reading: Promise<unknown> = Promise.resolve();
  readonly #coming: Promise<Fetched>[] = [];

  private constructor(
    readonly remote: RemoteFolder,
    readonly path: string,
    readonly parts: readonly Part[],
    signal: AbortSignal,
    readonly folder: string,
  ) {
    this.#signal = anySignal(signal, this.#stop.signal);
  }

  /** @throws PluginError */
  static async open(remote: RemoteFolder, path: string, parts: readonly Part[], signal: AbortSignal): Promise<Readable> {
    const folder = await remote.stage.folder();
    const reader = new Reader(remote, path, parts, signal, folder.path);
    try {
      for (let n = 0; n < 2; n++) reader.#fetch();
      await reader.#advance();
    } catch (error) {
      await reader.#end();
      throw error;
    }
    return reader.#stream(signal);
  }

  #stream(signal: AbortSignal): Readable {
    const abort = (): void => {
      stream.destroy(abortError(this.path));
    };
    const stream = new Readable({
      highWaterMark: chunk,
      read: () => {
        const reading = this.#read();
        this.#reading = reading;
        reading.then(
          (bytes) => stream.push(bytes),
          (error: unknown) => stream.destroy(error instanceof Error ? error : new PluginError('failed', String(error))),
        );
      },
      destroy: (error, done) => {
        signal.removeEventListener('abort', abort);
        this.#end().then(
          () => done(error),
          () => done(error),
        );
      },
    });
    stream.on('error', () => undefined); // without a listener, an abort before the first read would end the process; the read reports it
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    return stream;
  }

  /** The next bytes; null at the end. */
  async #read(): Promise<Uint8Array | null> {
    for (;;) {
      const part = this.#current;
      if (part === undefined) return null;
      const size = Math.min(chunk, part.end - part.at);
      const { bytesRead, buffer } = await part.file.read(Buffer.allocUnsafe(size), 0, size, part.at);
      part.at += bytesRead;
      if (bytesRead > 0) return buffer.subarray(0, bytesRead);
      await drop(part);
      this.#fetch();
      await this.#advance();
    }
  }
  async #advance(): Promise<void> {
    this.#current = undefined;
    this.#current = await this.#coming.shift();
  }

  /** Starts the download of the next part. */
  #fetch(): void {
    const number = this.#next++;
    const part = this.parts[number];
    if (part === undefined) return;
    const fetched = this.#bring(part, `${this.folder}/${number}`, number + 1 < this.parts.length);
    fetched.catch(() => undefined); // awaited when the reader comes to it
    this.#coming.push(fetched);
  }

  async #bring(part: Part, into: string, again: boolean): Promise<Fetched> {
    const path = `${into}/${part.path.slice(part.path.lastIndexOf('/') + 1)}`;
    const ranged = part.size !== undefined && (part.from > 0 || part.to < part.size);
    if (ranged) await this.#bringRange(part, into, path);
    else await this.remote.pull(part.path, into, { signal: this.#signal, again });
    const { size } = await statFile(path).catch((cause: unknown) => Promise.reject(stageError(path, cause)));
    const right = part.size === undefined || (ranged ? size >= part.to : size === part.size);
    if (!right) throw new PluginError('damaged', `${part.path}: ${size} bytes came instead of ${part.to}; it was changed on the server`);
    const file = await open(path, 'r').catch((cause: unknown) => Promise.reject(stageError(path, cause)));
    return { file, path, at: part.start, end: Math.min(part.end, size) };
  }

  /** Downloads a range with --append: rsync takes a sparse file of `from` bytes for a half-done copy, and is killed once it has
   *  written the range. */
  async #bringRange(part: Part, into: string, path: string): Promise<void> {
    const enough = new AbortController();
    const bring = async (): Promise<void> => {
      await this.remote.pull(part.path, into, {
        signal: this.#signal,
        from: part.from,
        enough: enough.signal,
        limit: (part.to - part.from) * 1.01 + (2 << 20),
        before: () => sparse(path, part.from),
      });
      enough.abort();
    };
    const watch = async (): Promise<void> => {
      while (!enough.signal.aborted) {
        await sleep(20);
        const size = await statFile(path).then(
          ({ size }) => size,
          () => 0,
        );
        if (size >= part.to) enough.abort();
      }
    };
    await Promise.all([bring().finally(() => enough.abort()), watch()]);
  }

  /** Stops downloads and removes the downloaded parts. */
  async #end(): Promise<void> {
    this.#stop.abort();
    await this.#reading.catch(() => undefined);
    if (this.#current !== undefined) await drop(this.#current);
    for (const coming of this.#coming) await coming.then(drop, () => undefined);
    await rm(this.folder, { recursive: true, force: true });
    this.remote.connection.rest();
  }
}

async function drop({ file, path }: Fetched): Promise<void> {
  await file.close().catch(() => undefined);
  await rm(path, { force: true });
}

async function sparse(path: string, size: number): Promise<void> {
  try {
    await writeFile(path, '');
    await truncate(path, size);
  } catch (cause) {
    throw stageError(path, cause);
  }
}
