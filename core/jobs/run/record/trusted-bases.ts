/** Verifies the files that a run builds on. A base that was not verified for `verifyMs` is read back and compared with its SHA-256.
 *  One that differs is marked: runs that need it are listed as damaged, and a new base is made. */
import {
  type ArchiveEntry,
  fetchFile,
  type OpenRecord,
  pathsNeeded,
  type RecordRuns,
  readBack,
  restoredFilesOf,
  runTime,
  type Sealer,
  type StoredFile,
  StoredTable,
  type StoredTableFile,
  unpackFile,
  withFailed,
  writeVerifications,
} from '../../../archive/index.js';
import { PluginError, type PluginLog, type Target, type Warning } from '../../../contract/index.js';
import type { Base } from './choose-base.js';

/** Limits of a warning: names, and characters of the problem. */
const mostNames = 100;
const mostWords = 1000;
const runInPath = /(?:^|image-)(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})[./]/;

export interface TrustDeps {
  readonly target: Target;
  readonly record: string;
  readonly sealer: Sealer;
  /** Oldest verification that still counts, ms. */
  readonly verifyMs: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
}

/** The time it was stored, which counts as verified; 0 for a record's first base, whose name holds no time. */
const storedAt = ({ path }: StoredFile): number => runTime(runInPath.exec(path)?.[1] ?? '') || 0;

export class TrustedBases {
  readonly warnings: Warning[] = [];
  #needed: ReadonlySet<string> | undefined;

  constructor(
    private readonly deps: TrustDeps,
    private readonly opened: OpenRecord,
  ) {}

  /** The record's runs, with failed verifications applied. @throws PluginError as OpenRecord.runs */
  async runs(): Promise<RecordRuns> {
    return this.markFailed(await this.opened.runs());
  }

  /** The given runs, with failed verifications applied. */
  markFailed(runs: RecordRuns): RecordRuns {
    this.#needed ??= pathsNeeded(runs);
    return withFailed(runs, this.opened.verifications);
  }

  /** Whether a run may build on a stored level. A damaged one adds a warning. @throws PluginError as readBack */
  async isSound(archive: ArchiveEntry): Promise<boolean> {
    for (const file of restoredFilesOf(archive)) if (!(await this.#isFileSound(file, archive.source))) return false;
    return true;
  }

  async #isFileSound(file: StoredFile, source: string): Promise<boolean> {
    const known = this.opened.verifications.of(file);
    const problem = known?.problem ?? (await this.#problemOf(file, known?.at ?? storedAt(file)));
    if (problem === undefined) return true;
    if (known?.problem === undefined) await this.#note(file, problem);
    await this.#warn(file, source, problem.slice(0, mostWords));
    return false;
  }

  /** Whether a level can build on a whole base: fetches tar's snapshot file to `snapshot`. @throws PluginError as get */
  async hasSnapshot(base: Base, snapshot: string): Promise<boolean> {
    const { target, record, signal } = this.deps;
    const fetched = await this.#unlessDamaged(base.source, async () => {
      await unpackFile(base.snapshot, snapshot, await target.get(`${record}/${base.snapshot.path}`, { signal }), signal);
      return true;
    });
    return fetched ?? false;
  }

  /** Fetches the block table of a whole base to `local`. @returns undefined when a level cannot build on it @throws PluginError as get */
  async openTable({ source }: Base, file: StoredTableFile, local: string): Promise<StoredTable | undefined> {
    const { target, record, signal } = this.deps;
    return this.#unlessDamaged(source, async () => {
      await fetchFile(file, local, await target.get(`${record}/${file.path}`, { signal }), signal);
      return StoredTable.open(local, file.hash_bytes);
    });
  }

  async #unlessDamaged<T>(source: string, fetch: () => Promise<T>): Promise<T | undefined> {
    try {
      return await fetch();
    } catch (error) {
      if (!(error instanceof PluginError && ['damaged', 'not_found'].includes(error.code))) throw error;
      this.deps.log('warn', `a new base of ${source} is made: ${error.message}`);
      return undefined;
    }
  }

  /** Notes the store time of a base whose name holds none. */
  async noteStored(archives: readonly ArchiveEntry[]): Promise<void> {
    const files = archives.flatMap(restoredFilesOf);
    for (const file of files) if (storedAt(file) === 0 && this.opened.verifications.of(file) === undefined) await this.#note(file);
  }

  async #problemOf(file: StoredFile, proven: number): Promise<string | undefined> {
    const { target, record, verifyMs, signal, log } = this.deps;
    const there = await target.stat(`${record}/${file.path}`);
    if (there === undefined) return `${file.path} is missing`;
    if (there.size !== file.stored_bytes) return `${file.path} has ${there.size} bytes instead of ${file.stored_bytes}`;
    const age = Date.now() - proven;
    if (age >= 0 && age < verifyMs) return undefined;
    log('info', `${record}/${file.path} is read back before a run builds on it`);
    const problem = await readBack(target, record, file, signal);
    if (problem === undefined) await this.#note(file);
    return problem;
  }

  /** A verification that cannot be written is repeated by the next run. */
  async #note(file: StoredFile, problem?: string): Promise<void> {
    const { target, record, sealer, signal, log } = this.deps;
    this.opened.verifications.note(file, Date.now(), problem);
    const files = this.opened.verifications.files((path) => path === file.path || (this.#needed?.has(path) ?? true));
    await writeVerifications(target, record, { files, sealer }, signal).catch((error: unknown) => {
      if (error instanceof PluginError && error.code === 'aborted') throw error;
      log('warn', `the verifications of ${record} could not be written: ${error}`);
    });
  }

  async #warn({ path }: StoredFile, source: string, problem: string): Promise<void> {
    const broken = (await this.runs()).complete.filter(({ failed }) => failed?.includes(path)).map(({ run }) => run);
    const message = `${problem}; ${broken.length} runs need it and cannot come back whole, and a new base of ${source} is made`;
    this.deps.log('warn', message);
    this.warnings.push({
      code: 'base_damaged',
      message,
      fix: 'Look after the disk of the target. Retention does not count the runs that are named',
      count: broken.length,
      names: broken.slice(0, mostNames),
    });
  }
}
