/** The uploaded bundle: taken in as it comes, checked to the last bit, one at a time. */
import { mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { anySignal } from '../contract/index.js';
import { syncFolder } from '../durable.js';
import { checkEnvelope } from './envelope.js';
import { aborted, UpdateError } from './errors.js';
import type { BundleInfo, Rauc } from './rauc.js';
import { type CheckOptions, checkPayload, signatureOf } from './verity.js';

// The state's database is on the same file system: it must always be able to write.
const reserve = 16 << 20;
// Written at once, and all that waits in memory: a file of hundreds of MiB comes over TLS in pieces of 16 KiB.
const writeBytes = 1 << 20;
// How a stream says that the client went in the middle.
const gone: readonly string[] = ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'ABORT_ERR'];

export interface Upload {
  readonly body: Readable;
  /** Content-Length, when there is one. */
  readonly length: number | undefined;
  readonly signal: AbortSignal;
  /** A client may send nothing for so long. */
  readonly stallMs: number;
}

export class BundleFolder {
  readonly file: string;
  readonly #part: string;

  constructor(readonly folder: string) {
    this.file = join(folder, 'bundle.raucb');
    this.#part = join(folder, 'bundle.raucb.part');
  }

  /** Takes away what a crash left. */
  async open(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await rm(this.#part, { force: true });
  }

  async holds(): Promise<boolean> {
    return (await this.#size()) > 0;
  }

  /** Whether there was one. */
  async discard(): Promise<boolean> {
    const there = await this.holds();
    await rm(this.file, { force: true });
    if (there) await syncFolder(this.folder);
    return there;
  }

  /** Whether a bundle of that length fits in the place of the one that is there. @throws UpdateError no_space */
  async checkRoom(length: number | undefined): Promise<void> {
    const missing = (length ?? 0) - (await this.#free()) - (await this.#size());
    if (missing > 0) throw this.#full(missing);
  }

  /** Takes the place of what was there, and leaves nothing when it throws. @throws UpdateError no_space, stalled, aborted */
  async receive(upload: Upload): Promise<void> {
    await this.discard();
    try {
      await this.#write(upload);
    } catch (error) {
      await rm(this.#part, { force: true });
      throw error;
    }
  }

  /** Gives what was received its name, once it has been checked; before that, no crash makes it one to be installed. */
  async keep<T>(check: (file: string) => Promise<T>): Promise<T> {
    try {
      const found = await check(this.#part);
      await rename(this.#part, this.file);
      await syncFolder(this.folder);
      return found;
    } catch (error) {
      await rm(this.#part, { force: true });
      throw error;
    }
  }

  async #size(): Promise<number> {
    return stat(this.file).then(
      ({ size }) => size,
      () => 0,
    );
  }

  /** Bytes that may be written. */
  async #free(): Promise<number> {
    const { bavail, bsize } = await statfs(this.folder);
    return bavail * bsize - reserve;
  }

  #full(missing: number): UpdateError {
    return new UpdateError('no_space', `${missing} bytes are missing in ${this.folder} for the bundle; free that much`);
  }

  async #write({ body, length, signal, stallMs }: Upload): Promise<void> {
    const free = await this.#free();
    const stall = new AbortController();
    const timer = setTimeout(() => stall.abort(), stallMs);
    let bytes = 0;
    const stop = anySignal(signal, stall.signal);
    try {
      await using handle = await open(this.#part, 'w', 0o600);
      // Each piece is written before the next is asked for: a fast client waits for the disk.
      const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
        for await (const piece of pieces(chunks, () => timer.refresh())) {
          bytes += piece.length;
          if (bytes > free) throw this.#full(bytes - free); // of one that does not say how long it is
          await handle.writeFile(piece);
        }
      };
      await pipeline(body, write, { signal: stop });
      await handle.sync();
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
      if (code === 'ENOSPC' || code === 'EDQUOT') throw this.#full(Math.max((length ?? 0) - bytes, reserve));
      if (stall.signal.aborted) throw new UpdateError('stalled', `nothing of the bundle came for ${stallMs / 1000} s; send it again`);
      if (signal.aborted || (typeof code === 'string' && gone.includes(code))) throw aborted();
      throw cause;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Chunks, joined to pieces that are worth a write. @param came is called for each chunk */
async function* pieces(chunks: AsyncIterable<Buffer>, came: () => void): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    came();
    waiting.push(chunk);
    bytes += chunk.length;
    if (bytes < writeBytes) continue;
    yield Buffer.concat(waiting);
    [waiting, bytes] = [[], 0];
  }
  yield Buffer.concat(waiting);
}

export interface BundleCheck extends CheckOptions {
  readonly rauc: Rauc;
  /** Of this appliance. */
  readonly compatible: string;
}

/** Signature, then what it is for, then each block. @throws UpdateError untrusted_, damaged_, incompatible_bundle, unavailable */
export async function checkBundle(file: string, { rauc, compatible, ...options }: BundleCheck): Promise<BundleInfo> {
  const { info, verity } = await rauc.info(file, options.signal);
  {
    await using handle = await open(file, 'r');
    checkEnvelope((await signatureOf(handle)).signature);
  }
  if (info.compatible !== compatible)
    throw new UpdateError('incompatible_bundle', `the bundle is for ${info.compatible}, this is ${compatible}; get the one for this board`);
  await checkPayload(file, verity, options);
  return info;
}
