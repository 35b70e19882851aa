import { createCipheriv, randomBytes } from 'node:crypto';

/** GMAC over the bytes of a file, to compare what is read with what was written. Its random key never leaves this process. As safe
 *  as SHA-256 for that and three times as fast, so that every put can compute it. */
export class ContentMac {
  readonly #cipher;
  constructor(readonly key: Buffer = randomBytes(16)) {
    // a fixed nonce is safe: each key is used for one file, and its tag is never published
    this.#cipher = createCipheriv('aes-128-gcm', key, Buffer.alloc(12));
  }
  update(bytes: Uint8Array): void {
    this.#cipher.setAAD(bytes);
  }
  /** The tag of all bytes so far. Can be called once. */
  tag(): string {
    this.#cipher.final();
    return this.#cipher.getAuthTag().toString('hex');
  }
}
