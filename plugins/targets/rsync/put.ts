import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { anySignal, PluginError, type Stored } from '../../../core/contract/index.js';
import { finishWithin, settleWithin } from '../../shared/primitives/deadline.js';
import { abortError, untilAborted } from '../../shared/source.js';
import { pattern } from './filters.js';
import type { Looked, RemoteFolder } from './folder.js';
import { lastGeneration, markerName, ofGeneration, pieceName, suffix, tooMany } from './pieces.js';
import { type Piece, stageError, stagePieces } from './staging.js';
import { removePieces } from './tree.js';

/** Time limits after an abort, which the contract gives 5 s: first for the commit, then for the undo. */
const finishing = 1_000;
const undoing = 2_700;

export interface PutOptions {
  readonly signal: AbortSignal;
  readonly replace: boolean;
  readonly pieceBytes: number;
}

/** Stores `source` or nothing: as one file up to the size of a piece, else in pieces. On failure the caller must destroy the
 *  source; a source that stalls keeps nothing open. @throws PluginError */
export async function put(remote: RemoteFolder, parts: readonly string[], source: Readable, o: PutOptions): Promise<Stored> {
  if (o.signal.aborted) throw abortError(parts.join('/'));
  const before = await remote.look(parts, o.signal, { sizes: true });
  refuseTaken(parts, before, o.replace);
  await using folder = await remote.stage.folder();
  using filling = aborter();
  const pieces = stagePieces(source, folder.path, o.pieceBytes, anySignal(o.signal, filling.signal));
  const work = new Put(remote, parts, folder.path, before, o);
  const first = await untilAborted(next(pieces), o.signal, parts.join('/'));
  if (first === undefined) throw new PluginError('failed', 'the source gave nothing');
  if (first.last) return await work.whole(first);
  return await work.inPieces(first, pieces).finally(() => remote.connection.rest());
}

/** A signal that aborts at the end of its scope. */
function aborter(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  return { signal: controller.signal, [Symbol.dispose]: () => controller.abort() };
}

async function next(pieces: AsyncGenerator<Piece>): Promise<Piece | undefined> {
  const { value, done } = await pieces.next();
  return done ? undefined : value;
}

/** @throws PluginError exists, invalid */
function refuseTaken(parts: readonly string[], { plain, pieces, blocked }: Looked, replace: boolean): void {
  const path = parts.join('/');
  if (blocked !== undefined) throw new PluginError('invalid', `${blocked} is a file; nothing can be stored below it`);
  if (plain?.kind === 'folder') throw new PluginError('exists', `${path} is a folder; a file cannot replace it`);
  if (!replace && (plain !== undefined || pieces?.whole !== undefined)) throw new PluginError('exists', `${path} is already there`);
}

/** One put, from its first staged piece on. */
class Put {
  readonly #path: string;
  /** Folder in which staged files have their final paths. */
  readonly #tree: string;
  readonly #generation: number;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #sending = new Set<Promise<void>>();
  #bytes = 0;
  #count = 0;
  #marked = false;

  constructor(
    readonly remote: RemoteFolder,
    readonly parts: readonly string[],
    readonly stage: string,
    readonly before: Looked,
    readonly o: PutOptions,
  ) {
    this.#path = parts.join('/');
    this.#tree = `${stage}/tree`;
    this.#signal = anySignal(o.signal, this.#stop.signal);
    // random, so that two appliances that store the same path at a time do not write each other's pieces
    this.#generation = (before.pieces?.highest ?? 0) + 1 + Math.floor(Math.random() * 16);
  }
  get #folder(): string {
    return `${this.#path}${suffix}`;
  }

  /** Stores one file: rsync writes it into the temporary folder and renames it. */
  async whole(piece: Piece): Promise<Stored> {
    const keep = !this.o.replace;
    await this.#move(piece.file, this.#path);
    try {
      const push = (signal: AbortSignal) => this.remote.push(this.#tree, [this.#path], { signal, keep });
      const { sent, tries } = await this.#finish(push);
      // nothing sent: the name was taken, unless an earlier try stored the file before its connection broke
      if (!sent && !(tries > 1 && (await this.#stands(piece.bytes, this.o.signal))))
        throw new PluginError('exists', `${this.#path} is already there`);
    } catch (error) {
      if (!(await settleWithin(undoing, (signal) => this.#takeBack(error, piece.bytes, signal)))) throw error;
    }
    if (this.before.pieces?.whole !== undefined) await this.#tidy(removePieces(this.remote, this.parts, this.o.signal));
    return { bytes: piece.bytes };
  }
  async #stands(bytes: number, signal: AbortSignal): Promise<boolean> {
    return (await this.remote.look(this.parts, signal)).plain?.size === bytes;
  }
  /** @returns whether the file was stored before the abort, so that nothing has to be undone */
  async #takeBack(error: unknown, bytes: number, signal: AbortSignal): Promise<boolean> {
    const stopped = error instanceof PluginError && ['aborted', 'unavailable'].includes(error.code);
    if (stopped && this.before.plain === undefined && (await this.#stands(bytes, signal))) return true;
    await this.#undo(signal);
    return false;
  }

  /** Stores the pieces, and then the marker that makes the file exist. */
  async inPieces(first: Piece, pieces: AsyncGenerator<Piece>): Promise<Stored> {
    if (this.#generation > lastGeneration) {
      const fix = 'remove it first, or take another name';
      throw new PluginError('unsupported', `${this.#path} was replaced too often; ${fix}`);
    }
    try {
      await this.#sendAll(first, pieces);
      await this.#check();
      await this.#commit();
    } catch (error) {
      this.#stop.abort();
      await Promise.allSettled(this.#sending); // wait until the server has ended its part, then remove the pieces
      await settleWithin(undoing, (signal) => this.#undo(signal));
      throw error;
    }
    return { bytes: this.#bytes, pieces: { folder: this.#folder, count: this.#count } };
  }

  /** Sends each piece as soon as it is filled, with two pieces at most on this appliance: while one waits for the server's disk,
   *  the next is filled. */
  async #sendAll(first: Piece, pieces: AsyncGenerator<Piece>): Promise<void> {
    for (let piece: Piece | undefined = first; piece !== undefined; ) {
      const sending: Promise<void> = this.#send(piece).finally(() => this.#sending.delete(sending));
      sending.catch(() => undefined); // awaited below
      this.#sending.add(sending);
      const all = Promise.all(this.#sending);
      all.catch(() => undefined);
      if (piece.last) {
        await untilAborted(all, this.o.signal, this.#path);
        return;
      }
      if (this.#sending.size > 1) await untilAborted(Promise.race(this.#sending), this.o.signal, this.#path);
      const filling = next(pieces);
      piece = await untilAborted(Promise.race([filling, all.then(() => filling)]), this.o.signal, this.#path);
    }
  }

  async #send({ file, number, bytes, last }: Piece): Promise<void> {
    if (tooMany(number)) throw new PluginError('unsupported', `${this.#path} has too many pieces; set a larger options.pieceMiB`);
    const path = `${this.#folder}/${pieceName(this.#generation, number)}`;
    await this.#move(file, path);
    await this.remote.push(this.#tree, [path], { signal: this.#signal, inplace: true, again: !last });
    await rm(`${this.#tree}/${path}`);
    this.#bytes += bytes;
    this.#count = Math.max(this.#count, number);
  }

  async #move(file: string, path: string): Promise<void> {
    try {
      await mkdir(`${this.#tree}/${path}`.slice(0, -(path.length - path.lastIndexOf('/'))), { recursive: true });
      await rename(file, `${this.#tree}/${path}`);
    } catch (cause) {
      throw stageError(file, cause);
    }
  }

  /** Checks that all pieces have their size and that the name is still free. @throws PluginError damaged, exists */
  async #check(): Promise<void> {
    const { replace, signal, pieceBytes } = this.o;
    const now = await this.remote.look(this.parts, signal, { sizes: true });
    refuseTaken(this.parts, now, replace);
    for (let number = 1; number <= this.#count; number++) {
      const size = number < this.#count ? pieceBytes : this.#bytes - pieceBytes * (this.#count - 1);
      const there = now.pieces?.size(this.#generation, number);
      if (there === size) continue;
      const text = `${this.#folder}: the server has ${there ?? 'none'} of the ${size} bytes of piece ${number}; try again`;
      throw new PluginError('damaged', text, { retryable: true });
    }
  }

  /** Writes the marker, and then removes the replaced file. */
  async #commit(): Promise<void> {
    const marker = markerName({ generation: this.#generation, count: this.#count, bytes: this.#bytes });
    const path = `${this.#folder}/${marker}`;
    try {
      await writeFile(`${this.#tree}/${path}`, '');
    } catch (cause) {
      throw stageError(path, cause);
    }
    this.#marked = true;
    await this.#finish((signal) => this.remote.push(this.#tree, [path], { signal, inplace: true }));
    const { plain, pieces } = this.before;
    const { signal } = this.o;
    if (plain !== undefined) await this.remote.remove(this.parts.slice(0, -1), [pattern(this.parts)], signal);
    if (pieces !== undefined) await this.#tidy(removePieces(this.remote, this.parts, signal, this.#generation));
  }

  /** @throws PluginError */
  async #finish<T>(work: (late: AbortSignal) => Promise<T>): Promise<T> {
    const { signal } = this.o;
    if (signal.aborted) throw abortError(this.#path);
    return finishWithin(finishing, signal, this.#path, work);
  }

  /** Logs a failure to remove the replaced file, which no longer counts. */
  async #tidy(work: Promise<void>): Promise<void> {
    await work.catch((error: unknown) => {
      this.remote.connection.log('warn', `${this.#folder}: what was replaced is not all removed: ${String(error)}`);
    });
  }

  /** Removes what this put stored, and the folders that it made, if they are empty. */
  async #undo(signal: AbortSignal): Promise<void> {
    const { depth } = this.before;
    const folder = [...this.parts.slice(0, -1), `${this.parts.at(-1)}${suffix}`];
    const own = ofGeneration(this.#generation).map((name) => pattern(folder, `/${name}`));
    if (this.#marked) await this.remote.remove(folder, own.slice(-1), signal);
    const made = this.parts.slice(0, -1).flatMap((_, i) => (i < depth ? [] : [pattern(this.parts.slice(0, i + 1), '/')]));
    // rsync removes inside a new folder only when that folder is removed itself
    const below = this.before.pieces === undefined ? this.parts.slice(0, depth) : folder;
    const empty = this.before.pieces === undefined ? [pattern(folder, '/')] : [];
    await this.remote.remove(below, [...own, ...empty, ...made], signal);
  }
}
