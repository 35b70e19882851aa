/** Writes a file of the server with many requests in flight, and resumes after the connection broke. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError } from '../../../../core/contract/index.js';
import { abortError } from '../../../shared/source.js';
import type { Connection } from '../connection.js';
import type { OpenFile, Sftp } from '../protocol/client.js';
import { ifThere } from '../protocol/status.js';
import { Open, writeRoom } from '../protocol/wire.js';
import { ContentMac } from './content-mac.js';
import { InflightWindow } from './inflight-window.js';
import { SecondChannel } from './second-channel.js';

/** A block of bytes that the server has not confirmed. It may have to be sent again, so its buffer is reused only after the
 *  confirmation. */
interface Piece {
  readonly bytes: Buffer;
  readonly offset: number;
  length: number;
}

/** Bytes of one write, where the server accepts as many. */
const pieceSize = 256 << 10;
/** How long a server may be away before a put fails. A machine that boots takes longer and is left to the job's next try. */
const awayTime = 45_000;
const waits = { first: 250, most: 3_000 };
/** Bytes between two fsyncs: bounds the time of the last one. */
const syncEvery = 64 << 20;

export class Writer {
  /** Bytes given so far. */
  bytes = 0;
  /** How often the connection was reopened. */
  resumed = 0;
  /** MAC of all sent bytes. */
  readonly proof = new ContentMac();
  readonly #pace = new InflightWindow();
  readonly #sent = new Set<Piece>();
  readonly #free: Buffer[] = [];
  readonly #size: number;
  /** The piece that is not full yet. */
  #filling: Piece | undefined;
  #underWay = 0;
  /** Offset of the last confirmed byte. */
  #confirmed = 0;
  #synced = 0;
  #syncing: Promise<void> = Promise.resolve();
  #error: { readonly cause: unknown } | undefined;
  #brokenSince: number | undefined;
  #recovery: Promise<void> | undefined;
  #second: SecondChannel;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(
    readonly connection: Connection,
    readonly path: string,
    public file: OpenFile,
    readonly signal: AbortSignal,
  ) {
    this.#size = Math.min(pieceSize, file.sftp.maxWrite);
    this.#second = new SecondChannel(connection, path);
  }

  /** Takes bytes, sends each full piece, and returns when there is room for more (back-pressure). @throws the error of an earlier
   *  write */
  async write(chunk: Uint8Array): Promise<void> {
    this.#check();
    for (let at = 0; at < chunk.length; ) {
      this.#filling ??= { bytes: this.#free.pop() ?? Buffer.allocUnsafeSlow(writeRoom + this.#size), offset: this.bytes, length: 0 };
      const some = chunk.subarray(at, at + this.#size - this.#filling.length);
      this.#filling.bytes.set(some, writeRoom + this.#filling.length);
      this.#filling.length += some.length;
      this.bytes += some.length;
      at += some.length;
      if (this.#filling.length === this.#size) this.#sendFilled();
      while (this.#underWay > this.#pace.limit) await this.#change();
    }
    if (this.bytes - this.#synced >= syncEvery) await this.#keepUp();
  }

  /** Sends the rest, and returns when the server has confirmed everything. */
  async drain(): Promise<void> {
    this.#check();
    this.#sendFilled();
    while (this.#sent.size > 0) await this.#change();
    await Promise.all([this.#syncing, this.#second.close()]);
    this.#check();
  }

  /** Runs idempotent work with the file, and again after a break. @throws StatusError, PluginError */
  async run<T>(work: (file: OpenFile) => Promise<T>): Promise<T> {
    for (;;) {
      this.#check();
      await this.#recovery;
      const file = this.file;
      try {
        const result = await work(file);
        this.#brokenSince = undefined;
        return result;
      } catch (error) {
        if (file.sftp.failure === undefined) throw error;
        await this.#recover(file);
      }
    }
  }

  /** Closes the remote handle. Later run() callbacks get a live channel but must not use `handle`. */
  async close(): Promise<void> {
    await this.run(async ({ sftp, handle }) => {
      // never twice: the server may have given the same handle to another file
      if (this.#closed) return;
      this.#closed = true;
      await sftp.closeHandle(handle);
    });
  }

  /** Stops sending and closes the file. */
  stop(): void {
    this.#fail(abortError(this.path));
    this.#second.close().catch(() => undefined); // its channel ends in any case
    if (!this.#closed) this.file.sftp.closeHandle(this.file.handle).catch(() => undefined);
    this.#closed = true;
  }

  #check(): void {
    if (this.#error !== undefined) throw this.#error.cause;
  }
  async #change(): Promise<void> {
    this.#check();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#check();
  }
  #fail(cause: unknown): void {
    this.#error ??= { cause };
    this.#sent.clear();
    this.#wake();
  }

  #sendFilled(): void {
    const piece = this.#filling;
    if (piece === undefined) return;
    this.#filling = undefined;
    this.#underWay += piece.length;
    this.#sent.add(piece);
    this.proof.update(piece.bytes.subarray(writeRoom, writeRoom + piece.length));
    if (this.#recovery === undefined) this.#send(piece); // else the recovery sends it
  }

  #send(piece: Piece): void {
    const file = this.#second.take(piece.length, this.#underWay, this.file) ?? this.file;
    const since = performance.now();
    file.sftp.write(file.handle, piece.offset, piece.bytes, piece.length).then(
      () => {
        this.#pace.took(performance.now() - since, piece.length);
        this.#second.gave(file, piece.length);
        this.#confirm(piece);
      },
      (error: unknown) => this.#refused(file, error, piece),
    );
  }

  #confirm(piece: Piece): void {
    if (!this.#sent.delete(piece)) return;
    this.#free.push(piece.bytes);
    this.#brokenSince = undefined;
    this.#underWay -= piece.length;
    this.#confirmed = Math.max(this.#confirmed, piece.offset + piece.length);
    this.#wake();
  }

  #refused(file: OpenFile, error: unknown, piece: Piece): void {
    if (file.sftp.failure === undefined) this.#fail(error);
    else if (file !== this.file && this.#second.onLost(file)) {
      // send it over the first channel; a recovery sends everything again anyway
      if (this.#recovery === undefined && this.#sent.has(piece)) this.#send(piece);
    } else this.#recover(file).catch(() => undefined); // it calls #fail itself
  }

  /** Waits for the last fsync and starts the next, which runs beside the writes. */
  async #keepUp(): Promise<void> {
    this.#synced = this.bytes;
    await this.#syncing;
    this.#check();
    this.#syncing = this.run((file) => this.#syncBeside(file));
    this.#syncing.catch((error: unknown) => this.#fail(error));
  }

  /** Runs fsync in another channel, because the writes of this one would wait for it. An fsync of any handle covers all writes to
   *  the file. */
  async #syncBeside({ sftp, handle }: OpenFile): Promise<void> {
    if (!sftp.offers('fsync@openssh.com')) return;
    const beside = await this.connection.beside();
    if (beside === undefined || beside.failure !== undefined) return sftp.sync(handle);
    try {
      const other = await beside.open(this.path, Open.write);
      await beside.sync(other).finally(() => beside.closeHandle(other).catch(() => undefined));
    } catch (error) {
      if (beside.failure === undefined) throw error;
      await sftp.sync(handle); // if both channels broke, this throws
    }
  }

  /** Reconnects once for all requests that found the same channel broken. */
  #recover(broken: OpenFile): Promise<void> {
    if (this.file !== broken) return this.#recovery ?? Promise.resolve();
    this.#recovery ??= this.#reconnect().catch((error: unknown) => {
      this.#fail(error);
      throw error;
    });
    return this.#recovery;
  }

  async #reconnect(): Promise<void> {
    this.resumed++;
    // a break without progress since the last one counts as the same, so that retries end after awayTime
    let lost = this.#brokenSince === undefined ? undefined : this.file.sftp.failure;
    this.#brokenSince ??= Date.now();
    for (let wait = waits.first; ; wait = Math.min(2 * wait, waits.most)) {
      if (lost !== undefined) {
        if (Date.now() - this.#brokenSince > awayTime) throw lost;
        await sleep(wait, undefined, { signal: this.signal }).catch(() => undefined);
      }
      this.#check();
      try {
        return this.#goOn(await this.#reopen());
      } catch (error) {
        if (!(error instanceof PluginError && error.code === 'unavailable' && error.retryable)) throw error;
        lost = error;
      }
    }
  }

  #goOn(file: OpenFile): void {
    // stopped meanwhile: nobody uses the new handle
    if (this.#error !== undefined && file.handle !== this.file.handle) file.sftp.closeHandle(file.handle).catch(() => undefined);
    this.#check();
    this.file = file;
    this.#second = new SecondChannel(this.connection, this.path);
    this.#recovery = undefined; // now, not when it settles: #sendFilled sends the pieces from here on
    for (const piece of this.#sent) this.#send(piece);
  }

  /** Reopens the file in a new channel. It must hold all confirmed bytes, else its content is unknown. */
  async #reopen(): Promise<OpenFile> {
    const sftp = await this.connection.sftp();
    if (this.#closed) return { sftp, handle: this.file.handle };
    const found = await ifThere(sftp.lstat(this.path));
    if (found?.size === undefined || found.size < this.#confirmed) {
      const has = found === undefined ? 'nothing' : `${found.size} bytes`;
      const text = `${this.path}: after the connection broke the server has ${has} of the ${this.#confirmed} bytes that it had confirmed`;
      throw new PluginError('damaged', `${text}; try again`, { retryable: true });
    }
    return { sftp, handle: await sftp.open(this.path, Open.write) };
  }
}

/** Makes a file durable (fsync), where the server offers it. */
export async function syncFile(sftp: Sftp, handle: Buffer): Promise<void> {
  if (sftp.offers('fsync@openssh.com')) await sftp.sync(handle);
}
