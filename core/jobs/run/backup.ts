/** One backup run: reads the sources in passes, stores their archives, and writes the manifest last. */
import { Readable } from 'node:stream';
import {
  type ArchiveEntry,
  freeRunName,
  manifestName,
  manifestText,
  mustKnow,
  type NewestRun,
  type NewManifest,
  recordFolder,
  runManifest,
  type Sealer,
  type StoredSource,
  sealManifest,
} from '../../archive/index.js';
import { anySignal, type Description, PluginError, type PluginLog, type Runtime, type Source, type Target } from '../../contract/index.js';
import type { RecordLock } from '../../targets/record-lock.js';
import { type Claim, findTrustedRun } from '../../targets/record-owner.js';
import type { BackupSpec, WorkerMessage } from '../job.js';
import { type Emptied, findEmptiedSources } from './emptied.js';
import type { HeldLease } from './lease.js';
import { ArchiveWriter } from './passes/archive-writer.js';
import { BigFilesOfSources } from './passes/big-files.js';
import { Estimate } from './passes/estimate.js';
import { warnMoving } from './passes/moving.js';
import { flagsLeftOut, type PassDeps, type Track } from './passes/passes.js';
import { Passes } from './passes/run-passes.js';
import { type BaseChoice, chooseBase, sourcesOf } from './record/choose-base.js';
import { fetchBases } from './record/fetch-bases.js';
import { RecordKeeper } from './record/record-keeper.js';
import { type Selection, selectSources } from './selection.js';

export interface BackupDeps {
  readonly id: number;
  readonly spec: BackupSpec;
  readonly runtime: Runtime;
  readonly target: Target;
  readonly workFolder: string;
  readonly sealer: Sealer;
  readonly newBase: boolean;
  readonly newBaseRatio: number;
  /** Least size of a file that is stored by blocks. */
  readonly bigFileBytes: number;
  /** A base must have been verified within so many ms. */
  readonly verifyMs: number;
  /** Sources that a person confirmed to be empty. */
  readonly confirmed: readonly string[];
  /** The job's claim to the record. */
  readonly claim: Claim;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  progress(percent: number): void;
  /** Reports that a part of the run starts over: the attempt, its time (epoch ms) and the code of the error before. */
  startOver(attempt: number, at: number, reason: string): void;
  /** Reports how long the container will be paused, ms. */
  pauseExpected(ms: number): void;
  /** Takes the lock of a record on the target. */
  lock(record: string): Promise<RecordLock>;
  lease(): Promise<HeldLease>;
}
type Result = Extract<WorkerMessage, { type: 'result' }>;
/** `emptied`: sources that became empty and that nobody has confirmed. */
export type BackupOutcome = Required<Pick<Result, 'run' | 'bytes' | 'pause_ms'>> & Pick<Result, 'warnings' | 'emptied'>;

/** Runs the backup. A run that fails leaves nothing on the target. @throws PluginError */
export async function backupRun(deps: BackupDeps): Promise<BackupOutcome> {
  const { spec, runtime } = deps;
  const record = recordFolder(spec.job_name);
  const description = await runtime.describe(spec.container_id);
  const chosen = selectSources(description, await runtime.sources(spec.container_id), spec.exclude ?? []);
  await using lock = await deps.lock(record); // last of the preparations, so that a run that cannot begin makes no folder
  return await runLocked({ ...deps, signal: anySignal(deps.signal, lock.lost) }, { record, description, chosen, lock });
}

type FirstParts = Pick<RunParts, 'record' | 'lock' | 'description' | 'chosen'>;

async function runLocked(deps: BackupDeps, parts: FirstParts): Promise<BackupOutcome> {
  const { spec, target, signal } = deps;
  const { record, lock } = parts;
  const opening = RecordKeeper.open({ ...deps, record }, lock.listing);
  const [keeper, stored] = await Promise.all([opening, sourcesOf(parts.chosen.sources, signal)]);
  const newest = findTrustedRun(record, keeper.newest, parts.description, deps.claim);
  await keeper.prepare();
  const run = await freeRunName(target, record, keeper.latest);
  const storer = new ArchiveWriter(target, record, spec.features.includes('compress') ? 'zstd' : 'none', deps);
  const layer = deps.runtime.supports.images ? 'rootfs' : undefined;
  const emptied = await findEmptiedSources(newest, parts.chosen.sources, { confirmed: deps.confirmed, layer });
  try {
    return await new Run(deps, { ...parts, run, newest, keeper, emptied, stored, storer }).go();
  } catch (error) {
    if (lock.lost.aborted) throw lock.lost.reason; // another appliance has the record now; nothing in it may be removed
    await storer.removeAll().catch((cause: unknown) => deps.log('warn', `leftovers of ${run} stay until the next run: ${cause}`));
    await target.remove(`${record}/${run}`).catch(() => undefined);
    // Garbage was not collected before the run if that needed too many manifests.
    if (error instanceof PluginError && error.code === 'no_space')
      await keeper.tidy().catch((cause: unknown) => deps.log('warn', `leftovers in ${record} stay: ${cause}`));
    throw error;
  }
}

/** The schema of the manifest takes no more. */
const mostWarnings = 1000;

interface RunParts {
  readonly record: string;
  readonly lock: RecordLock;
  readonly run: string;
  /** The run that this one may build on. */
  readonly newest: NewestRun | undefined;
  readonly description: Description;
  readonly chosen: Selection;
  readonly keeper: RecordKeeper;
  readonly emptied: Emptied;
  /** The sources as the manifest lists them. */
  readonly stored: readonly StoredSource[];
  readonly storer: ArchiveWriter;
}

class Run {
  readonly #started = new Date();
  readonly #estimate: Estimate;
  readonly #pass: PassDeps;
  /** The folders and tables of big files. */
  readonly #opened: AsyncDisposable[];

  constructor(
    private readonly deps: BackupDeps,
    private readonly parts: RunParts,
  ) {
    this.#estimate = new Estimate(deps.progress);
    const { workFolder, signal, target, bigFileBytes: least } = deps;
    const bigFiles = new BigFilesOfSources(parts.chosen.sources, { workFolder, signal, least });
    this.#opened = [bigFiles];
    this.#pass = {
      storer: parts.storer,
      estimate: this.#estimate,
      ...{ workFolder, signal, bigFiles },
      connections: Math.max(1, target.supports.connections),
    };
  }

  async go(): Promise<BackupOutcome> {
    try {
      return await this.#go();
    } finally {
      await Promise.allSettled(this.#opened.map((one) => one[Symbol.asyncDispose]()));
    }
  }

  async #go(): Promise<BackupOutcome> {
    const { storer, run, record, emptied } = this.parts;
    const image = await this.#image();
    const tracks = await this.#tracks();
    const passes = this.#passes();
    await passes.go(tracks);
    const manifest = sealManifest(this.#manifest(tracks, image, passes), this.deps.sealer);
    await this.parts.lock.check();
    await storer.smallFile(`${run}/${manifestName}`, () => Readable.from([Buffer.from(manifestText(manifest))]));
    const back = await runManifest(this.deps.target, record, run, this.deps.signal);
    if (JSON.stringify(back) !== JSON.stringify(manifest))
      throw new PluginError('damaged', `the manifest of ${run} does not read back as written`);
    // The run exists now. What fails from here on is logged, and the next run does it.
    await this.parts.keeper.afterwards(manifest, emptied.unexplained.length > 0).catch((error: unknown) => {
      this.deps.log('warn', `retention of ${record} is not complete: ${error}`);
    });
    const warnings = manifest.warnings && { warnings: manifest.warnings };
    const waiting = emptied.unexplained.length > 0 && { emptied: emptied.unexplained };
    return { run, bytes: storer.bytes, pause_ms: passes.pauseMs, ...warnings, ...waiting };
  }

  #passes(): Passes {
    const { spec, runtime, lease, pauseExpected } = this.deps;
    return new Passes({ spec, runtime, lease, pauseExpected, description: this.parts.description, pass: this.#pass });
  }

  /** Stores the engine's image once for all runs that need it. */
  async #image(): Promise<{ digest: string; archive: ArchiveEntry } | undefined> {
    const { runtime, spec, signal } = this.deps;
    const image = runtime.supports.images ? await runtime.image(spec.container_id) : undefined;
    if (image === undefined) return undefined;
    const { keeper } = this.parts;
    const kept = await keeper.image(image.digest);
    if (kept && (await keeper.bases.isSound(kept))) return { digest: image.digest, archive: kept };
    const path = this.parts.storer.freePath(this.#topStem());
    return { digest: image.digest, archive: await this.parts.storer.image(path, () => image.open(signal)) };
  }

  #topStem(): string {
    return this.parts.keeper.latest === undefined ? 'image' : `image-${this.parts.run}`;
  }

  async #tracks(): Promise<Track[]> {
    const { newest, chosen, stored, keeper } = this.parts;
    const choices = stored.map((kept) => chooseBase(newest, kept, this.deps.newBaseRatio));
    const isAsked = (name: string) => this.deps.newBase || this.parts.emptied.settled.includes(name);
    const bases = await fetchBases(
      keeper.bases,
      choices.map(({ base }, n) => (base && !isAsked(chosen.sources[n]?.name ?? '') ? base : undefined)),
      { ...this.#pass, opened: this.#opened },
    );
    return chosen.sources.map((source, index) => this.#track(source, choices[index] ?? {}, bases[index]));
  }

  #track(source: Source, choice: BaseChoice, base: Track['base']): Track {
    const onTop = source.name === 'rootfs' && !this.deps.runtime.supports.images;
    const runStem = `${this.parts.run}/${source.name}`;
    this.#estimate.expect(source.name, base || choice.base === undefined ? choice.expected : undefined);
    return { source, archives: [], runStem, baseStem: onTop ? this.#topStem() : runStem, ...(base && { base }) };
  }

  #manifest(tracks: readonly Track[], image: { digest: string; archive: ArchiveEntry } | undefined, passes: Passes): NewManifest {
    const { run, description, chosen, keeper, emptied } = this.parts;
    const moving = warnMoving(tracks, description, passes.pause);
    const archives = [...(image ? [image.archive] : []), ...tracks.flatMap((track) => track.archives)];
    const warnings = [...passes.warnings, ...moving, ...keeper.bases.warnings, ...emptied.warnings].slice(0, mostWarnings);
    return {
      format: 2,
      ...(archives.some(({ blocks }) => blocks) && { must_know: [mustKnow.blocks] }),
      run,
      job: { id: this.deps.id, name: this.deps.spec.job_name },
      container: description,
      sources: this.parts.stored,
      ...(image && { image: { digest: image.digest } }),
      features: this.deps.spec.features,
      started: this.#started.toISOString(),
      ended: new Date().toISOString(),
      pause_ms: passes.pauseMs,
      result: 0,
      left_out: [...chosen.left_out, ...tracks.flatMap(flagsLeftOut)],
      ...(warnings.length > 0 && { warnings }),
      archives,
    };
  }
}
