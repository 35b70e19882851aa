import { createHash } from 'node:crypto';
import { Transform } from 'node:stream';

/** Passes bytes through and counts and hashes them. */
export class Meter extends Transform {
  bytes = 0;
  readonly #hash = createHash('sha256');
  #digest: string | undefined;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: (error: null, chunk: Buffer) => void): void {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
    done(null, chunk);
  }

  /** SHA-256 in hex of all bytes; read it only after the end. */
  get sha256(): string {
    this.#digest ??= this.#hash.digest('hex');
    return this.#digest;
  }
}
