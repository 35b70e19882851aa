/** Tends a record around a backup run. Before the run it reads only what the run needs. After the run it applies retention, collects
 *  garbage and writes the index. */
import {
  type ArchiveEntry,
  chooseProven,
  collectGarbage,
  fileOf,
  imageSource,
  type Manifest,
  manifestText,
  type NewestRun,
  type NewManifest,
  OpenRecord,
  pathsNeeded,
  type RecordListing,
  type RecordRuns,
  removeRun,
  withSeen,
  writeIndex,
} from '../../../archive/index.js';
import type { BackupSpec } from '../../job.js';
import { runsToDelete } from './retention.js';
import { type TrustDeps, TrustedBases } from './trusted-bases.js';

export interface KeeperDeps extends TrustDeps {
  readonly id: number;
  readonly spec: Pick<BackupSpec, 'job_name' | 'retention'>;
}

export class RecordKeeper {
  readonly #seen = new Map<string, number>();
  /** Garbage was collected. */
  #isTidied = false;

  private constructor(
    private readonly deps: KeeperDeps,
    private readonly opened: OpenRecord,
    readonly bases: TrustedBases,
  ) {}

  /** Reads what a run needs to begin. @param listing the lock's listing of the record, if it made one
   *  @throws PluginError of the target */
  static async open(deps: KeeperDeps, listing?: RecordListing): Promise<RecordKeeper> {
    const { target, record, signal, sealer } = deps;
    const opened = await OpenRecord.open(target, record, { signal, sealer, keepsNewest: true, ...(listing && { listing }) });
    return new RecordKeeper(deps, opened, new TrustedBases(deps, opened));
  }

  /** Frees the room of broken runs before the next one, if that needs few manifests. @throws PluginError of the target */
  async prepare(): Promise<void> {
    if (this.opened.isNearlyKnown) await this.#collect(await this.opened.runs(), this.opened.listing);
  }

  /** The newest complete run. */
  get newest(): NewestRun | undefined {
    return this.opened.newest;
  }

  /** Name of the newest run, whole or damaged. */
  get latest(): string | undefined {
    return this.opened.latest;
  }

  /** Finds an image in the record's runs. @throws PluginError as OpenRecord.runs */
  async image(digest: string): Promise<ArchiveEntry | undefined> {
    const newest = this.newest?.image?.digest === digest ? this.newest : undefined;
    const holder = newest ?? (await this.#manifestWith(digest));
    return holder?.archives.find(({ source }) => source === imageSource);
  }

  async #manifestWith(digest: string): Promise<Manifest | undefined> {
    const holder = (await this.opened.runs()).complete.find(({ said }) => said.image === digest);
    const manifest = holder && (await this.opened.manifestOf(holder.run));
    return manifest?.image?.digest === digest ? manifest : undefined;
  }

  /** Collects garbage once. @throws PluginError of the target */
  async tidy(): Promise<void> {
    if (!this.#isTidied) await this.#collect(await this.opened.runs());
  }

  /** @returns whether the index knows more about the runs' folders than before */
  async #collect(runs: RecordRuns, just?: RecordListing): Promise<boolean> {
    const { target, record, log } = this.deps;
    this.#isTidied = true;
    for (const { why } of runs.damaged) log('warn', why);
    if (pathsNeeded(runs) === undefined) log('warn', `the runs of ${record} need more files than fit into memory; no garbage is collected`);
    const collected = await collectGarbage(target, record, withSeen(runs, this.#seen), just);
    if (collected.gone.length > 0) log('info', `removed what no run of ${record} needs`, { paths: collected.gone });
    for (const [run, time] of collected.seen) this.#seen.set(run, time);
    return collected.seen.size > 0;
  }

  /** Applies retention, collects garbage and writes the index. @param keepsAll retention deletes no run */
  async afterwards(manifest: NewManifest, keepsAll: boolean): Promise<void> {
    const { opened, bases, deps } = this;
    const { target, record, spec } = deps;
    await bases.noteStored(manifest.archives);
    const file = fileOf(Buffer.from(manifestText(manifest)));
    const all = (runs: RecordRuns) => bases.markFailed(opened.withNewRun(runs, manifest, file));
    const { runs, old } = await chooseProven(target, record, all(await opened.runs()), {
      choose: (complete) => (keepsAll ? [] : runsToDelete(complete, spec.retention)),
      readAnew: async (names) => all(await opened.readAnew(names)),
    });
    const kept = { ...runs, complete: runs.complete.slice(0, runs.complete.length - old.length) };
    // The index goes first: after a power cut in between, the next run reads the manifests of the deleted runs and collects their files.
    await this.#writeIndex(manifest, kept);
    for (const run of old) await removeRun(target, record, run);
    const isNews = (old.length > 0 || !this.#isTidied) && (await this.#collect(kept));
    if (isNews) await this.#writeIndex(manifest, kept);
  }

  /** Without an index, for lack of room say, the next run reads manifests instead. */
  async #writeIndex(manifest: Manifest, runs: RecordRuns): Promise<void> {
    const { target, record, id, spec, log } = this.deps;
    const { complete } = withSeen(runs, this.#seen);
    const contents = { job: { id, name: spec.job_name }, container: manifest.container, runs: complete };
    await writeIndex(target, record, contents, this.deps).catch((error: unknown) => {
      log('warn', `the index of ${record} could not be written: ${error}`);
    });
  }
}
