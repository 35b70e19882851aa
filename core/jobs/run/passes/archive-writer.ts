/** Stores archives in a record: counts and hashes their bytes, checks them, and removes them when the run fails. */
import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import {
  type ArchiveEntry,
  addMoved,
  archiveName,
  type BlockPlan,
  type Compression,
  imageSource,
  type KnownFlags,
  type LevelPlan,
  Meter,
  type MovedFiles,
  type PackedLevel,
  packLevel,
  recordPath,
  type StoredFile,
  type StoredTableFile,
  type TableWriter,
  zstdStream,
} from '../../../archive/index.js';
import { anySignal, PluginError, type PluginLog, type Target } from '../../../contract/index.js';
import { longWaits, retry } from '../../../policy/index.js';
import { BlockStream } from './block-stream.js';

/** Paths of a level in the record. */
export interface LevelPaths {
  readonly archive: string;
  /** Used when big files differ. */
  readonly blocks: string;
}

export interface LevelOrder {
  readonly paths: LevelPaths;
  readonly plan: Omit<LevelPlan, 'compression' | 'leaveOut'>;
  readonly level: number;
  /** The big files, which tar leaves out. */
  readonly blocks?: BlockPlan | undefined;
  /** Gets the bytes that were read so far. */
  onBytes?(bytes: number): void;
}

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

  /** Paths for a level that this run has not used yet. */
  freePaths(stem: string, suffix = ''): LevelPaths {
    return { archive: this.freePath(stem, suffix), blocks: this.freePath(stem, `${suffix}.blocks`) };
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
  async level(order: LevelOrder): Promise<StoredLevel> {
    const { paths, plan, blocks, onBytes = () => undefined } = order;
    const { compression } = this;
    const leaveOut = blocks && { leaveOut: blocks.files.map(({ path }) => path) };
    const packed = await packLevel({ ...plan, ...leaveOut, compression }, this.signal, onBytes);
    const beside = blocks && new BlockStream(blocks, plan.inPause ? `${plan.snapshot}.blocks` : undefined);
    const stored = this.file(paths.archive, packed.stream).then(async (file) => {
      onBytes(packed.report.bytes);
      return this.#entry(order, packed, { file, beside });
    });
    stored.catch((error: unknown) => beside?.giveUp(error)); // awaited after the pause
    const moved = Promise.all([packed.moved, beside?.moved]).then(([one, other]) => addMoved(one, other));
    moved.catch(() => undefined); // likewise
    return { moved, searched: packed.searched, stored };
  }

  /** Stores the blocks, once the tar is durable: a target may take only one put at a time. */
  async #entry(
    { paths, plan, level, onBytes }: LevelOrder,
    { report, searched }: PackedLevel,
    { file, beside }: { readonly file: StoredFile; readonly beside: BlockStream | undefined },
  ): Promise<ArchiveEntry> {
    const { flags_left_out: leftOut, ...found } = await searched;
    if (plan.source.kind === 'file' && found.entries === 0)
      throw new PluginError('failed', `${plan.source.path} vanished before it was read; run the backup again`, { retryable: true });
    const blocks = beside && (await this.#blocks(paths.blocks, beside, (bytes) => onBytes?.(report.bytes + bytes)));
    const { bytes = 0, files = 0 } = beside?.report ?? {};
    return {
      ...{ source: plan.source.name, level, compression: this.compression, ...report, ...found },
      ...{ bytes: report.bytes + bytes, entries: found.entries + files },
      ...(leftOut > 0 && { flags_left_out: leftOut }),
      ...file,
      ...(blocks && { blocks }),
    };
  }

  async #blocks(path: string, beside: BlockStream, onBytes: (bytes: number) => void): Promise<StoredFile | undefined> {
    const stream = await beside.open();
    if (stream === undefined) return undefined;
    stream.on('data', () => onBytes(beside.report.bytes)).pause(); // whoever reads it starts it again
    return this.file(path, this.compression === 'zstd' ? zstdStream(stream, 'compress', this.signal) : stream);
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

  /** Removes a level that is not needed after all. */
  async drop({ archive, blocks }: LevelPaths): Promise<void> {
    for (const path of [blocks, archive]) {
      if (this.#made.has(path)) await this.target.remove(`${this.record}/${path}`);
      this.#made.delete(path);
      this.#names.delete(path.toLowerCase());
    }
  }

  /** Stores tar's snapshot file, compressed: the names of 100,000 files are some MiB. */
  async snapshot(path: string, local: string): Promise<StoredFile> {
    return this.smallFile(path, () => zstdStream(createReadStream(local), 'compress', this.signal));
  }

  /** Stores the block table of a base. */
  async table(path: string, table: TableWriter): Promise<StoredTableFile> {
    const file = await this.smallFile(path, () => Readable.from(table.stored(), { objectMode: false }));
    return { ...file, hash_bytes: table.hashBytes };
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
