/** A record, read as little as needed: first its folders, its index and its newest whole run. Other runs are read on demand, from
 *  the index where nothing contradicts it, else from their manifests. */
import type { Target } from '../../contract/index.js';
import { inLanes } from '../../primitives/lanes.js';
import type { Manifest } from './manifest.js';
import {
  listRecord,
  type ManifestFile,
  manifestSize,
  mostLooks,
  namesOfRuns,
  type RecordedRun,
  type RecordListing,
  readRun,
  readRuns,
} from './record.js';
import { readIndex } from './record-index.js';
import type { RecordRuns } from './record-runs.js';
import { type RunSummary, Summaries } from './run-summary.js';
import type { Sealer } from './seal.js';
import { readVerifications, type Verifications } from './verifications.js';

/** The newest complete run, on which the next one builds. */
export type NewestRun = Pick<Manifest, 'run' | 'job' | 'seal' | 'sources' | 'image' | 'archives' | 'warnings'> & {
  readonly container: Pick<Manifest['container'], 'name' | 'type'>;
};

export interface OpenOptions {
  readonly signal: AbortSignal;
  /** The appliance whose index and verifications are believed; without it, none are. */
  readonly sealer?: Sealer;
  /** Whether to keep the newest run's manifest in memory: it may be large. */
  readonly keepsNewest?: boolean;
  /** A listing made just now; nobody else has written to the record since. */
  readonly listing?: RecordListing;
}

type Known =
  | { readonly run: string; readonly state: 'complete'; readonly summary: RunSummary }
  | { readonly run: string; readonly state: 'damaged'; readonly why: string }
  | { readonly run: string; readonly state: 'empty' };

/** Most manifests to read before a run begins. */
const mostAtOnce = 64;
/** Names to process at a time. */
const mostInSequence = 1000;

export class OpenRecord {
  /** The newest complete run, if it was asked for; undefined when there is none. */
  newest?: NewestRun;
  /** Name of the newest run, complete or damaged. */
  latest?: string;
  readonly #known = new Map<string, Known>();
  #runs: Promise<RecordRuns> | undefined;

  private constructor(
    private readonly target: Target,
    private readonly record: string,
    private readonly o: OpenOptions,
    /** The listing from when the record was opened. */
    readonly listing: RecordListing,
    readonly verifications: Verifications,
    private readonly summaries: Summaries,
    private index: Map<string, RunSummary> | undefined,
  ) {}

  /** Opens a record; independent reads run at the same time. @throws PluginError about the target as a whole */
  static async open(target: Target, record: string, o: OpenOptions): Promise<OpenRecord> {
    const { sealer, signal } = o;
    const summaries = new Summaries();
    // The listing goes last: a target that answers one request after another takes longest for it.
    const [index, verifications, listing] = await Promise.all([
      sealer && readIndex(target, record, { sealer, signal, summaries }),
      readVerifications(target, record, signal, sealer),
      o.listing ?? listRecord(target, record),
    ]);
    const opened = new OpenRecord(target, record, o, listing, verifications, summaries, listing.isCut ? undefined : index);
    await opened.#findNewest();
    return opened;
  }

  async #findNewest(): Promise<void> {
    const { target, record, o, listing } = this;
    for await (const found of readRuns(target, record, o.signal, listing.folders.keys())) {
      this.#note(found);
      if (found.state !== 'empty') this.latest ??= found.run;
      if (found.state !== 'complete') continue;
      if (!o.keepsNewest) return;
      const { run, job, seal, container, sources, image, archives, warnings } = found.manifest;
      const { name, type } = container;
      const some = { ...(seal && { seal }), ...(image && { image }), ...(warnings && { warnings }) };
      this.newest = { run, job, container: { name, type }, sources, archives, ...some };
      return;
    }
  }

  /** Notes a run's state. A manifest overrules the index; an index that contradicts one is dropped. */
  #note(found: RecordedRun): void {
    const told = this.index?.get(found.run);
    if (found.state === 'complete') {
      const isTold = told?.manifest.sha256 === found.file.sha256;
      if (told && !isTold) this.index = undefined;
      const summary = isTold && told ? told : this.summaries.of(found.manifest, found.file, this.verifications);
      this.#known.set(found.run, { run: found.run, state: 'complete', summary });
    } else {
      if (told && found.state === 'damaged') this.index = undefined;
      this.#known.set(found.run, found);
    }
  }

  /** The index's summary of a run, if the run's folder has not changed since the index was written. */
  #indexed(run: string): RunSummary | undefined {
    const told = this.index?.get(run);
    const time = this.listing.folders.get(run);
    return time === undefined || told?.seen === time ? told : undefined;
  }

  /** Whether few enough manifests are unread to learn all runs at once. */
  get isNearlyKnown(): boolean {
    let unknown = 0;
    for (const run of this.listing.folders.keys()) {
      if (!this.#known.has(run) && this.#indexed(run) === undefined && ++unknown > mostAtOnce) return false;
    }
    return !this.listing.isCut;
  }

  /** All runs. The first call reads the manifests of runs that the index does not cover.
   *  @throws PluginError about the target as a whole, aborted */
  runs(): Promise<RecordRuns> {
    this.#runs ??= this.#readRuns();
    return this.#runs;
  }

  async #readRuns(): Promise<RecordRuns> {
    const { target, record, listing } = this;
    const complete: RunSummary[] = [];
    const damaged: { run: string; why: string }[] = [];
    const wide = Math.max(1, target.supports.connections);
    let names: string[] = [];
    const take = async (): Promise<void> => {
      // Size checks are cheap and many; manifests are read as many at a time as the target has connections.
      const looked = await inLanes(names, mostLooks, (run) => this.#look(run));
      const all = await inLanes(looked, wide, async (one) => (typeof one === 'string' ? this.#read(one) : one));
      for (const one of all) {
        if (one.state === 'complete') complete.push(one.summary);
        if (one.state === 'damaged') damaged.push({ run: one.run, why: one.why });
      }
      names = [];
    };
    for await (const run of listing.isCut ? namesOfRuns(target, record) : listing.folders.keys())
      if (names.push(run) === mostInSequence) await take();
    await take();
    return { complete, damaged };
  }

  /** What is known of a run without its manifest; its name if the manifest must be read. */
  async #look(run: string): Promise<Known | string> {
    const known = this.#known.get(run);
    if (known !== undefined) return known;
    const told = this.#indexed(run);
    if (told !== undefined) return { run, state: 'complete', summary: told };
    const entry = this.index?.get(run);
    if (entry === undefined || (await manifestSize(this.target, this.record, run)) !== entry.manifest.bytes) return run;
    return { run, state: 'complete', summary: entry };
  }

  async #read(run: string): Promise<Known> {
    const found = await readRun(this.target, this.record, run, this.o.signal);
    const known: Known =
      found.state === 'complete'
        ? { run, state: 'complete', summary: this.summaries.of(found.manifest, found.file, this.verifications) }
        : found;
    this.#known.set(run, known);
    return known;
  }

  /** A run's manifest, for a decision that depends on it; undefined when it is unusable. If it contradicts the index, all runs are
   *  read from their manifests from then on. @throws PluginError as readRun */
  async manifestOf(run: string): Promise<Manifest | undefined> {
    const found = await readRun(this.target, this.record, run, this.o.signal);
    const told = this.index?.get(run);
    if (told && !(found.state === 'complete' && found.file.sha256 === told.manifest.sha256)) {
      this.index = undefined;
      this.#runs = undefined;
    }
    return found.state === 'complete' ? found.manifest : undefined;
  }

  /** Forgets some runs. @returns all runs, with these read anew from their manifests */
  readAnew(runs: readonly string[]): Promise<RecordRuns> {
    for (const run of runs) {
      this.index?.delete(run);
      this.#known.delete(run);
    }
    this.#runs = undefined;
    return this.runs();
  }

  /** The runs with one more, newer than all others. */
  withNewRun(runs: RecordRuns, manifest: Manifest, file: ManifestFile): RecordRuns {
    return { ...runs, complete: [this.summaries.of(manifest, file, this.verifications), ...runs.complete] };
  }
}
