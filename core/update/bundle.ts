/** The uploaded bundle: written as it arrives, then checked to the last bit. There is one at a time. */
import { mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { anySignal } from '../contract/index.js';
import { syncFolder } from '../primitives/durable.js';
import { aborted, ServiceError } from '../primitives/service-error.js';
import { checkEnvelope } from './envelope.js';
import type { BundleInfo, Rauc } from './rauc.js';
import { type CheckOptions, checkPayload, signatureOf } from './verity.js';

// The database is on the same file system and must always be able to write.
const reserve = 16 << 20;
// One write, and the most that waits in memory. Over TLS a bundle of hundreds of MiB arrives in pieces of 16 KiB.
const writeBytes = 1 << 20;
// Codes of a stream whose client disconnected.
const gone: readonly string[] = ['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'ABORT_ERR'];

export interface Upload {
  readonly body: Readable;
  /** Content-Length, if the client sent one. */
  readonly length: number | undefined;
  readonly signal: AbortSignal;
  /** Longest silence of the client. */
  readonly stallMs: number;
}

export class BundleFolder {
  readonly file: string;
  readonly #part: string;

  constructor(readonly folder: string) {
    this.file = join(folder, 'bundle.raucb');
    this.#part = join(folder, 'bundle.raucb.part');
  }

  /** Removes what a crash left. */
  async open(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await rm(this.#part, { force: true });
  }

  async holds(): Promise<boolean> {
    return (await this.#size()) > 0;
  }

  /** @returns whether there was one */
  async discard(): Promise<boolean> {
    const existed = await this.holds();
    await rm(this.file, { force: true });
    if (existed) await syncFolder(this.folder);
    return existed;
  }

  /** Checks that a bundle of this length fits once the present one is removed. @throws ServiceError no_space */
  async checkRoom(length: number | undefined): Promise<void> {
    const missing = (length ?? 0) - (await this.#free()) - (await this.#size());
    if (missing > 0) throw this.#full(missing);
  }

  /** Removes the present bundle and writes the new one. Leaves nothing when it throws. @throws ServiceError no_space, stalled, aborted */
  async receive(upload: Upload): Promise<void> {
    await this.discard();
    try {
      await this.#write(upload);
    } catch (error) {
      await rm(this.#part, { force: true });
      throw error;
    }
  }

  /** Renames the received bundle to its final name after the check. Until then no crash can make it installable. */
  async keep<T>(check: (file: string) => Promise<T>): Promise<T> {
    try {
      const checked = await check(this.#part);
      await rename(this.#part, this.file);
      await syncFolder(this.folder);
      return checked;
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

  #full(missing: number): ServiceError {
    return new ServiceError('no_space', `${missing} bytes are missing in ${this.folder} for the bundle; free that much`);
  }

  async #write({ body, length, signal, stallMs }: Upload): Promise<void> {
    const free = await this.#free();
    const stall = new AbortController();
    const timer = setTimeout(() => stall.abort(), stallMs);
    let bytes = 0;
    const stop = anySignal(signal, stall.signal);
    try {
      await using handle = await open(this.#part, 'w', 0o600);
      // Back-pressure: each piece is written before the next is read, so a fast client waits for the disk.
      const write = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
        for await (const piece of pieces(chunks, () => timer.refresh())) {
          bytes += piece.length;
          if (bytes > free) throw this.#full(bytes - free); // without Content-Length nothing was known before
          await handle.writeFile(piece);
        }
      };
      await pipeline(body, write, { signal: stop });
      await handle.sync();
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
      if (code === 'ENOSPC' || code === 'EDQUOT') throw this.#full(Math.max((length ?? 0) - bytes, reserve));
      if (stall.signal.aborted) throw new ServiceError('stalled', `no byte of the bundle arrived for ${stallMs / 1000} s; send it again`);
      if (signal.aborted || (typeof code === 'string' && gone.includes(code))) throw aborted();
      throw cause;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Joins chunks to pieces of writeBytes. @param onChunk is called for each chunk */
async function* pieces(chunks: AsyncIterable<Buffer>, onChunk: () => void): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    onChunk();
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
  /** RAUC's name of this appliance's board. */
  readonly compatible: string;
}

/** Checks the signature, then the board, then each block. @throws ServiceError untrusted_, damaged_, incompatible_bundle, unavailable */
export async function checkBundle(file: string, { rauc, compatible, ...options }: BundleCheck): Promise<BundleInfo> {
  const { info, verity } = await rauc.info(file, options.signal);
  {
    await using handle = await open(file, 'r');
    checkEnvelope((await signatureOf(handle)).signature);
  }
  if (info.compatible !== compatible)
    throw new ServiceError(
      'incompatible_bundle',
      `the bundle is for ${info.compatible}, this is ${compatible}; get the one for this board`,
    );
  await checkPayload(file, verity, options);
  return info;
}
