import { PluginError } from '../../../../core/contract/index.js';
import type { Sftp } from '../protocol/client.js';
import { InflightWindow } from './inflight-window.js';

/** So much is asked for at a time, where the server gives as much. */
const pieceSize = 256 << 10;

/** The bytes of an open file, with several requests under way: one at a time would wait for each. */
export class ReadAhead {
  readonly #pace = new InflightWindow();
  readonly #pieces: Promise<Buffer[]>[] = [];
  #given: Buffer[] = [];
  readonly #size: number;
  #asked: number;
  #underWay = 0;

  constructor(
    readonly sftp: Sftp,
    readonly handle: Buffer,
    range: { readonly from: number; readonly to: number },
    readonly name: string,
  ) {
    this.#asked = range.from;
    this.to = range.to;
    this.#size = Math.min(pieceSize, sftp.maxRead);
  }
  readonly to: number;

  /** The next bytes; undefined after the last. @throws PluginError unavailable when there are fewer, StatusError */
  async next(): Promise<Buffer | undefined> {
    while (this.#asked < this.to && (this.#pieces.length === 0 || this.#underWay + this.#size <= this.#pace.limit)) {
      const length = Math.min(this.#size, this.to - this.#asked);
      const piece = this.#piece(this.#asked, length);
      piece.catch(() => undefined); // told when its turn comes, unless nobody reads on
      this.#pieces.push(piece);
      this.#asked += length;
      this.#underWay += length;
    }
    if (this.#given.length === 0) this.#given = (await this.#pieces.shift()) ?? [];
    const bytes = this.#given.shift();
    if (bytes !== undefined) this.#underWay -= bytes.length;
    return bytes;
  }

  async #piece(offset: number, length: number): Promise<Buffer[]> {
    const since = performance.now();
    const all: Buffer[] = [];
    // a server may give less than was asked for
    for (let have = 0; have < length; ) {
      const some = await this.sftp.read(this.handle, offset + have, length - have);
      const size = some?.reduce((sum, bytes) => sum + bytes.length, 0) ?? 0;
      if (some === undefined || size === 0 || size > length - have) throw this.#ended(offset + have);
      all.push(...some);
      have += size;
    }
    this.#pace.took(performance.now() - since, length);
    return all;
  }

  #ended(at: number): PluginError {
    const text = `${this.name} ended at ${at} instead of ${this.to}; was it changed meanwhile?`;
    return new PluginError('unavailable', text, { retryable: true });
  }
}
