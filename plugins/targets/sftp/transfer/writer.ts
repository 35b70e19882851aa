/** Writes a file of the server, with many requests under way, and goes on with it when the connection breaks. */
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

/** Bytes that the server has not confirmed; kept, since they may have to be sent again. Its memory is used again then. */
interface Piece {
  readonly bytes: Buffer;
  readonly offset: number;
  length: number;
}

/** So much is sent by one request, where the server takes as much. */
const pieceSize = 256 << 10;
/** How long a server may be away before a put gives up. A start of the machine takes longer; the job's next try comes later. */
const awayTime = 45_000;
const waits = { first: 250, most: 3_000 };
/** So much may be written before the disk is asked to keep up: bounds how long the last sync takes. */
const syncEvery = 64 << 20;

export class Writer {
  /** Given so far. */
  bytes = 0;
  /** How often the connection broke and was made anew. */
  resumed = 0;
  /** Of all that was sent. */
  readonly proof = new ContentMac();
  readonly #pace = new InflightWindow();
  readonly #sent = new Set<Piece>();
  readonly #free: Buffer[] = [];
  readonly #size: number;
  /** What is not full yet. */
  #filling: Piece | undefined;
  #underWay = 0;
  /** The end of what the server has confirmed. */
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
    readonly link: Connection,
    readonly path: string,
    public file: OpenFile,
    readonly signal: AbortSignal,
  ) {
    this.#size = Math.min(pieceSize, file.sftp.maxWrite);
    this.#second = new SecondChannel(link, path);
  }

  /** Takes bytes, sends what makes a whole piece, and returns when there is room for more. @throws what a write met */
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

  /** Returns when the server has all. */
  async drain(): Promise<void> {
    this.#check();
    this.#sendFilled();
    while (this.#sent.size > 0) await this.#change();
    await Promise.all([this.#syncing, this.#second.close()]);
    this.#check();
  }

  /** Does something with the file, again after a break: it must be fit to be done twice. @throws StatusError, PluginError */
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

  /** Closes the file. What is run afterwards gets a session, and a handle that is of no use. */
  async close(): Promise<void> {
    await this.run(async ({ sftp, handle }) => {
      // never twice: the server may have given the same handle to another file by then
      if (this.#closed) return;
      this.#closed = true;
      await sftp.closeHandle(handle);
    });
  }

  /** Nothing is sent any more. */
  stop(): void {
    this.#fail(abortError(this.path));
    this.#second.close().catch(() => undefined); // its session ends in any case
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
    if (this.#recovery === undefined) this.#send(piece); // else it is sent when there is a session again
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
      // the first session has its turn; during a recovery all is sent again anyway
      if (this.#recovery === undefined && this.#sent.has(piece)) this.#send(piece);
    } else this.#recover(file).catch(() => undefined); // it has told #fail
  }

  /** Waits for the last sync and starts the next, which runs beside what is sent. */
  async #keepUp(): Promise<void> {
    this.#synced = this.bytes;
    await this.#syncing;
    this.#check();
    this.#syncing = this.run((file) => this.#syncBeside(file));
    this.#syncing.catch((error: unknown) => this.#fail(error));
  }

  /** In the session of the writes all that is sent meanwhile would wait. Whoever syncs a file, all that was written to it
   *  becomes durable. */
  async #syncBeside({ sftp, handle }: OpenFile): Promise<void> {
    if (!sftp.offers('fsync@openssh.com')) return;
    const beside = await this.link.beside();
    if (beside === undefined || beside.failure !== undefined) return sftp.sync(handle);
    try {
      const other = await beside.open(this.path, Open.write);
      await beside.sync(other).finally(() => beside.closeHandle(other).catch(() => undefined));
    } catch (error) {
      if (beside.failure === undefined) throw error;
      await sftp.sync(handle); // only the second session broke, or this tells that both did
    }
  }

  /** One for all that found the same session broken. */
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
    // without progress since the last break this is no new one: a server that breaks down at each try is not tried for ever
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
    // stopped meanwhile: what was opened last is nobody's
    if (this.#error !== undefined && file.handle !== this.file.handle) file.sftp.closeHandle(file.handle).catch(() => undefined);
    this.#check();
    this.file = file;
    this.#second = new SecondChannel(this.link, this.path);
    this.#recovery = undefined; // at once: what is given from now on is sent by whoever gives it
    for (const piece of this.#sent) this.#send(piece);
  }

  /** The file as the new session sees it. What was confirmed must be there, else nothing is known of it. */
  async #reopen(): Promise<OpenFile> {
    const sftp = await this.link.sftp();
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

/** Makes the bytes of a file durable, where the server lets one ask for that. */
export async function syncFile(sftp: Sftp, handle: Buffer): Promise<void> {
  if (sftp.offers('fsync@openssh.com')) await sftp.sync(handle);
}
