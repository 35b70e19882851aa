/** A second session that carries a part of a file's writes, where the way is long. A server takes no more than its window of
 *  what a channel sends (OpenSSH: 2 MiB) in a round trip, whatever the line could carry; each channel has one of its own. */
import type { Connection } from '../connection.js';
import type { OpenFile } from '../protocol/client.js';
import { Open } from '../protocol/wire.js';

/** In a shorter round trip, in ms, a window of 2 MiB is no limit. */
const longTrip = 5;
/** So many bytes under way show that the file is worth a session. */
const worthIt = 1 << 20;

export class SecondChannel {
  #file: OpenFile | undefined;
  #lost: OpenFile | undefined;
  #opening: Promise<void> | undefined;
  #underWay = 0;
  #closed = false;

  constructor(
    readonly link: Connection,
    readonly path: string,
  ) {}

  /** The file as this way has it, when it is the one to send so many bytes: it has fewer under way than the first, of so many
   *  in all. Undefined when the first is to send them; then this one may be opened for the next. */
  take(bytes: number, allUnderWay: number, first: OpenFile): OpenFile | undefined {
    const file = this.#file;
    if (file === undefined) {
      if (allUnderWay > worthIt && first.sftp.session.roundTrip > longTrip) this.#opening ??= this.#open();
      return undefined;
    }
    if (this.#underWay > (allUnderWay - bytes) / 2) return undefined;
    this.#underWay += bytes;
    return file;
  }

  /** So many bytes that were sent with `file` have arrived. */
  gave(file: OpenFile, bytes: number): void {
    if (file === this.#file) this.#underWay -= bytes;
  }

  /** Sends nothing more when `file` is its own. @returns whether it was */
  onLost(file: OpenFile): boolean {
    if (file === this.#lost) return true;
    if (file !== this.#file) return false;
    this.#lost = file;
    this.#file = undefined;
    return true;
  }

  async #open(): Promise<void> {
    const sftp = await this.link.another();
    try {
      const handle = await sftp?.open(this.path, Open.write);
      if (sftp !== undefined && handle !== undefined && !this.#closed) this.#file = { sftp, handle };
      else sftp?.close();
    } catch {
      sftp?.close(); // the first goes on alone
    }
  }

  /** Closes its file and session. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#opening;
    const file = this.#file;
    this.#file = undefined;
    await file?.sftp.closeHandle(file.handle).catch(() => undefined);
    file?.sftp.close();
  }
}
