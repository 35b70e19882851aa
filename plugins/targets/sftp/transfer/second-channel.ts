/** A second channel that carries a part of a file's writes over a long round trip. Each channel has a window of its own (OpenSSH: 2
 *  MiB), which limits the bytes of one round trip whatever the line could carry. */
import type { Connection } from '../connection.js';
import type { OpenFile } from '../protocol/client.js';
import { Open } from '../protocol/wire.js';

/** Below this round trip, in ms, a window of 2 MiB is no limit. */
const longTrip = 5;
/** With so many bytes in flight the file is worth a second channel. */
const worthIt = 1 << 20;

export class SecondChannel {
  #file: OpenFile | undefined;
  #lost: OpenFile | undefined;
  #opening: Promise<void> | undefined;
  #underWay = 0;
  #closed = false;

  constructor(
    readonly connection: Connection,
    readonly path: string,
  ) {}

  /** Picks the channel for a piece of `bytes`. @returns this channel's file if it has fewer bytes in flight than the first, of
   *  `allUnderWay` in both; undefined if the first must send the piece. Then it may open this channel for later pieces. */
  take(bytes: number, allUnderWay: number, first: OpenFile): OpenFile | undefined {
    const file = this.#file;
    if (file === undefined) {
      if (allUnderWay > worthIt && first.sftp.channel.roundTrip > longTrip) this.#opening ??= this.#open();
      return undefined;
    }
    if (this.#underWay > (allUnderWay - bytes) / 2) return undefined;
    this.#underWay += bytes;
    return file;
  }

  /** Reports that so many bytes sent with `file` were confirmed. */
  gave(file: OpenFile, bytes: number): void {
    if (file === this.#file) this.#underWay -= bytes;
  }

  /** Stops using this channel if `file` is its own. @returns whether it is */
  onLost(file: OpenFile): boolean {
    if (file === this.#lost) return true;
    if (file !== this.#file) return false;
    this.#lost = file;
    this.#file = undefined;
    return true;
  }

  async #open(): Promise<void> {
    const sftp = await this.connection.another();
    try {
      const handle = await sftp?.open(this.path, Open.write);
      if (sftp !== undefined && handle !== undefined && !this.#closed) this.#file = { sftp, handle };
      else sftp?.close();
    } catch {
      sftp?.close(); // the first continues alone
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#opening;
    const file = this.#file;
    this.#file = undefined;
    await file?.sftp.closeHandle(file.handle).catch(() => undefined);
    file?.sftp.close();
  }
}
