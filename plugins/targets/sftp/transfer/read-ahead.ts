import { PluginError } from '../../../../core/contract/index.js';
import type { Sftp } from '../protocol/client.js';
import { InflightWindow } from './inflight-window.js';

/** Bytes of one read, where the server allows as many. */
const pieceSize = 256 << 10;

/** Reads an open file with several requests in flight, so that each need not wait for the one before. */
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

  /** The next bytes; undefined after the last. @throws PluginError unavailable when the file is shorter, StatusError */
  async next(): Promise<Buffer | undefined> {
    while (this.#asked < this.to && (this.#pieces.length === 0 || this.#underWay + this.#size <= this.#pace.limit)) {
      const length = Math.min(this.#size, this.to - this.#asked);
      const piece = this.#piece(this.#asked, length);
      piece.catch(() => undefined); // awaited when its turn comes, if at all
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
    // a server may give fewer bytes than requested
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
