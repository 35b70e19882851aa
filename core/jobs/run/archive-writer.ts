/** Puts archives into a record: counted, hashed, checked, and taken back when the run fails. */
import { createReadStream } from 'node:fs';
import { pipeline, type Readable } from 'node:stream';
import {
  type ArchiveEntry,
  archiveName,
  type Compression,
  imageSource,
  type LevelPlan,
  Meter,
  packLevel,
  recordPath,
  type StoredFile,
  zstdStream,
} from '../../archive/index.js';
import { anySignal, PluginError, type PluginLog, type Target } from '../../contract/index.js';
import { longWaits, retry } from '../../policy/index.js';

export interface StoredLevel {
  /** tar has read all that it will: the container may go on. */
  readonly read: Promise<void>;
  /** The archive is durable on the target. */
  readonly stored: Promise<ArchiveEntry>;
}

export interface WriterDeps {
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Something starts over: which attempt, when (epoch ms), and the code of the error before it. */
  startOver(attempt: number, at: number, reason: string): void;
}

export class ArchiveWriter {
  readonly #made = new Set<string>();
  readonly #names = new Set<string>();
  readonly #moving = new Set<Promise<unknown>>();
  readonly #given = new AbortController();
  private readonly signal: AbortSignal;
  /** Bytes that this run stored. */
  bytes = 0;

  constructor(
    private readonly target: Target,
    private readonly record: string,
    private readonly compression: Compression,
    private readonly deps: WriterDeps,
  ) {
    this.signal = anySignal(deps.signal, this.#given.signal);
  }

  /** A path in the record that this run has not given yet; volumes may be named alike but for their case, which SMB does not tell apart. */
  freePath(stem: string, suffix = ''): string {
    for (let n = 1; ; n++) {
      const path = archiveName(`${stem}${n === 1 ? '' : `-${n}`}${suffix}`, this.compression);
      if (this.#names.has(path.toLowerCase())) continue;
      this.#names.add(path.toLowerCase());
      return path;
    }
  }

  /** Stores what the stream gives, or nothing. */
  async file(path: string, source: Readable): Promise<StoredFile> {
    const put = this.#put(path, source);
    this.#moving.add(put);
    try {
      return await put;
    } finally {
      this.#moving.delete(put);
    }
  }

  async #put(path: string, source: Readable): Promise<StoredFile> {
    const meter = new Meter();
    pipeline(source, meter, () => undefined); // its failure fails the meter, and so the put
    // A try before may have stored it without our learning so: a connection that breaks at the last answer.
    if (this.#made.has(path)) await this.target.remove(`${this.record}/${path}`);
    this.#made.add(path);
    const { bytes, pieces } = await this.target.put(`${this.record}/${path}`, meter, { signal: this.signal }).catch((error: unknown) => {
      if (error instanceof PluginError && error.code === 'exists') this.#made.delete(path); // another's, and not ours to take back
      throw error;
    });
    if (!meter.readableEnded || bytes !== meter.bytes) {
      throw new PluginError('damaged', `the target took ${bytes} bytes of ${path}, which are not all of it`);
    }
    this.bytes += bytes;
    const inRecord = pieces && { folder: recordPath(pieces.folder.slice(this.record.length + 1)), count: pieces.count };
    return { path: recordPath(path), stored_bytes: bytes, sha256: meter.sha256, ...(inRecord && { pieces: inRecord }) };
  }

  /** Packs a level and stores it. */
  async level(path: string, plan: Omit<LevelPlan, 'compression'>, level: number, onBytes: (bytes: number) => void): Promise<StoredLevel> {
    const { stream, report, read, searched } = await packLevel({ ...plan, compression: this.compression }, this.signal, onBytes);
    const stored = this.file(path, stream).then(async (file) => {
      onBytes(report.bytes);
      const { flags_left_out: leftOut, ...found } = await searched;
      const more = leftOut > 0 && { flags_left_out: leftOut };
      return { source: plan.source.name, level, compression: this.compression, ...report, ...found, ...more, ...file };
    });
    stored.catch(() => undefined); // waited for after the pause
    return { read, stored };
  }

  /** Does what reads and stores something, and does it again from the start when the target broke off: what could not go on
   *  where it was is read anew. Not once `may` says no. */
  retryFromStart<T>(what: string, work: () => Promise<T>, may?: () => boolean): Promise<T> {
    const onRetry = (error: PluginError, ms: number, attempt: number) => {
      this.deps.log('warn', `${what} starts over in ${ms} ms: ${error.message}`);
      this.deps.startOver(attempt, Date.now() + ms, error.code);
    };
    return retry(work, { delays: longWaits, signal: this.signal, onRetry, ...(may && { mayRetry: may }) });
  }

  /** A small file, made anew for each try. */
  smallFile(path: string, source: () => Readable): Promise<StoredFile> {
    return this.retryFromStart(path, () => this.file(path, source()));
  }

  /** Takes back one that turned out to be of no use. */
  async drop(path: string): Promise<void> {
    await this.target.remove(`${this.record}/${path}`);
    this.#made.delete(path);
    this.#names.delete(path.toLowerCase());
  }

  /** A snapshot file of tar's, compressed: 100,000 files are some MiB of names. */
  async snapshot(path: string, local: string): Promise<StoredFile> {
    return this.smallFile(path, () => zstdStream(createReadStream(local), 'compress', this.signal));
  }

  /** What the engine saves of an image. */
  image(path: string, open: () => Promise<Readable>): Promise<ArchiveEntry> {
    return this.retryFromStart('the image', async () => {
      const plain = new Meter();
      pipeline(await open(), plain, () => undefined);
      const stream = this.compression === 'zstd' ? zstdStream(plain, 'compress', this.signal) : plain;
      const file = await this.file(path, stream);
      return { source: imageSource, level: 0, compression: this.compression, bytes: plain.bytes, entries: 0, ...file };
    });
  }

  /** Ends what is still on its way. */
  giveUp(): void {
    this.#given.abort();
  }

  /** Ends what is still on its way and takes back all that this run stored. */
  async removeAll(): Promise<void> {
    this.giveUp();
    await Promise.allSettled(this.#moving);
    for (const path of [...this.#made].reverse()) await this.target.remove(`${this.record}/${path}`);
  }
}
