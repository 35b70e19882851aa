/** Stores archives in a record: counts and hashes their bytes, checks them, and removes them when the run fails. */
import { createReadStream } from 'node:fs';
import { pipeline, type Readable } from 'node:stream';
import {
  type ArchiveEntry,
  archiveName,
  type Compression,
  imageSource,
  type KnownFlags,
  type LevelPlan,
  Meter,
  type MovedFiles,
  packLevel,
  recordPath,
  type StoredFile,
  zstdStream,
} from '../../archive/index.js';
import { anySignal, PluginError, type PluginLog, type Target } from '../../contract/index.js';
import { longWaits, retry } from '../../policy/index.js';

export interface StoredLevel {
  /** Resolves when tar has read everything: the container may be resumed. It has the files that moved meanwhile. */
  readonly moved: Promise<MovedFiles | undefined>;
  /** The inode flags that the next level builds on; resolves with `moved` when something moved, and later otherwise. */
  readonly searched: Promise<KnownFlags>;
  /** Resolves when the archive is durable on the target. */
  readonly stored: Promise<ArchiveEntry>;
}

export interface WriterDeps {
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Reports that a part starts over: the attempt, its time (epoch ms) and the code of the error before. */
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

  /** A path that this run has not used yet. Case is ignored: SMB does not tell `Data` from `data`. */
  freePath(stem: string, suffix = ''): string {
    for (let n = 1; ; n++) {
      const path = archiveName(`${stem}${n === 1 ? '' : `-${n}`}${suffix}`, this.compression);
      if (this.#names.has(path.toLowerCase())) continue;
      this.#names.add(path.toLowerCase());
      return path;
    }
  }

  /** Stores the whole stream or nothing. */
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
    pipeline(source, meter, () => undefined); // an error of the source fails the meter, and so the put
    // An earlier try may have stored it although the connection broke before the last answer.
    if (this.#made.has(path)) await this.target.remove(`${this.record}/${path}`);
    this.#made.add(path);
    const { bytes, pieces } = await this.target.put(`${this.record}/${path}`, meter, { signal: this.signal }).catch((error: unknown) => {
      if (error instanceof PluginError && error.code === 'exists') this.#made.delete(path); // not this run's file, so it is not removed later
      throw error;
    });
    if (!meter.readableEnded || bytes !== meter.bytes) {
      throw new PluginError('damaged', `the target stored only ${bytes} bytes of ${path}; run the backup again`);
    }
    this.bytes += bytes;
    const inRecord = pieces && { folder: recordPath(pieces.folder.slice(this.record.length + 1)), count: pieces.count };
    return { path: recordPath(path), stored_bytes: bytes, sha256: meter.sha256, ...(inRecord && { pieces: inRecord }) };
  }

  /** Packs a level and stores it. */
  async level(path: string, plan: Omit<LevelPlan, 'compression'>, level: number, onBytes: (bytes: number) => void): Promise<StoredLevel> {
    const { stream, report, moved, searched } = await packLevel({ ...plan, compression: this.compression }, this.signal, onBytes);
    const stored = this.file(path, stream).then(async (file) => {
      onBytes(report.bytes);
      const { flags_left_out: leftOut, moved: _, ...found } = await searched;
      if (plan.source.kind === 'file' && found.entries === 0)
        throw new PluginError('failed', `${plan.source.path} vanished before it was read; run the backup again`, { retryable: true });
      const more = leftOut > 0 && { flags_left_out: leftOut };
      return { source: plan.source.name, level, compression: this.compression, ...report, ...found, ...more, ...file };
    });
    stored.catch(() => undefined); // awaited after the pause
    return { moved, searched, stored };
  }

  /** Retries work that reads a source and stores it, from the start: a put cannot be resumed without its source.
   *  @param may asked before each retry */
  retryFromStart<T>(what: string, work: () => Promise<T>, may?: () => boolean): Promise<T> {
    const onRetry = (error: PluginError, ms: number, attempt: number) => {
      this.deps.log('warn', `${what} starts over in ${ms} ms: ${error.message}`);
      this.deps.startOver(attempt, Date.now() + ms, error.code);
    };
    return retry(work, { delays: longWaits, signal: this.signal, onRetry, ...(may && { mayRetry: may }) });
  }

  /** Stores a small file; `source` makes its stream anew for each try. */
  smallFile(path: string, source: () => Readable): Promise<StoredFile> {
    return this.retryFromStart(path, () => this.file(path, source()));
  }

  /** Removes an archive that is not needed after all. */
  async drop(path: string): Promise<void> {
    await this.target.remove(`${this.record}/${path}`);
    this.#made.delete(path);
    this.#names.delete(path.toLowerCase());
  }

  /** Stores tar's snapshot file, compressed: the names of 100,000 files are some MiB. */
  async snapshot(path: string, local: string): Promise<StoredFile> {
    return this.smallFile(path, () => zstdStream(createReadStream(local), 'compress', this.signal));
  }

  /** Stores an engine's image. */
  image(path: string, open: () => Promise<Readable>): Promise<ArchiveEntry> {
    return this.retryFromStart('the image', async () => {
      const plain = new Meter();
      pipeline(await open(), plain, () => undefined);
      const stream = this.compression === 'zstd' ? zstdStream(plain, 'compress', this.signal) : plain;
      const file = await this.file(path, stream);
      return { source: imageSource, level: 0, compression: this.compression, bytes: plain.bytes, entries: 0, ...file };
    });
  }

  /** Aborts all puts. */
  giveUp(): void {
    this.#given.abort();
  }

  /** Aborts all puts and removes every file that this run stored. */
  async removeAll(): Promise<void> {
    this.giveUp();
    await Promise.allSettled(this.#moving);
    for (const path of [...this.#made].reverse()) await this.target.remove(`${this.record}/${path}`);
  }
}
