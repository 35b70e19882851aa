/** A record, of which no more is read than somebody asks for: its folders and its index first, then the newest run that is whole.
 *  The other runs are read when they are wanted: by the index, as far as nothing speaks against it, else by their manifests. */
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

/** Of the newest complete run, on which the next one builds. */
export type NewestRun = Pick<Manifest, 'run' | 'job' | 'seal' | 'sources' | 'image' | 'archives' | 'warnings'> & {
  readonly container: Pick<Manifest['container'], 'name' | 'type'>;
};

export interface OpenOptions {
  readonly signal: AbortSignal;
  /** Of the appliance whose index and proofs are believed; without it none are. */
  readonly sealer?: Sealer;
  /** The newest run is kept in memory: it may be large. */
  readonly keepsNewest?: boolean;
  /** What lies in the record, when that was listed just now and nobody else has written there since. */
  readonly listing?: RecordListing;
}

type Known =
  | { readonly run: string; readonly state: 'complete'; readonly summary: RunSummary }
  | { readonly run: string; readonly state: 'damaged'; readonly why: string }
  | { readonly run: string; readonly state: 'empty' };

/** How many runs are read by their manifests before a run begins. */
const mostAtOnce = 64;
/** Names that are worked on at a time. */
const mostInSequence = 1000;

export class OpenRecord {
  /** The newest complete run, when it was to be kept; undefined when there is none. */
  newest?: NewestRun;
  /** Name of the newest run that is there, whole or damaged. */
  latest?: string;
  readonly #known = new Map<string, Known>();
  #runs: Promise<RecordRuns> | undefined;

  private constructor(
    private readonly target: Target,
    private readonly record: string,
    private readonly o: OpenOptions,
    /** As it was when the record was opened. */
    readonly listing: RecordListing,
    readonly verifications: Verifications,
    private readonly summaries: Summaries,
    private index: Map<string, RunSummary> | undefined,
  ) {}

  /** What does not need another is read at the same time. @throws PluginError what is wrong with the target as a whole */
  static async open(target: Target, record: string, o: OpenOptions): Promise<OpenRecord> {
    const { sealer, signal } = o;
    const summaries = new Summaries();
    // The list last: a target that answers one question after the other takes longest for that one.
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

  /** What a manifest says wins, and an index that says otherwise is believed no longer. */
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

  /** How the index knows a run whose folder is as it was when the index was written. */
  #indexed(run: string): RunSummary | undefined {
    const told = this.index?.get(run);
    const time = this.listing.folders.get(run);
    return time === undefined || told?.seen === time ? told : undefined;
  }

  /** Whether few enough manifests are to be read for all runs to be known at once. */
  get isNearlyKnown(): boolean {
    let unknown = 0;
    for (const run of this.listing.folders.keys()) {
      if (!this.#known.has(run) && this.#indexed(run) === undefined && ++unknown > mostAtOnce) return false;
    }
    return !this.listing.isCut;
  }

  /** All runs. What the index does not tell of them is read once, and not before this is called for the first time.
   *  @throws PluginError what is wrong with the target as a whole, aborted */
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
      // Looks are cheap and many; manifests are read as many at a time as the target takes.
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

  /** What is known of a run without reading its manifest; its name when that has to be read. */
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

  /** A run that something is to be decided on, by its manifest; undefined when that cannot be used. When it is another than the index
   *  tells, all runs are read by their manifests from then on. @throws PluginError as recordedRun */
  async manifestOf(run: string): Promise<Manifest | undefined> {
    const found = await readRun(this.target, this.record, run, this.o.signal);
    const told = this.index?.get(run);
    if (told && !(found.state === 'complete' && found.file.sha256 === told.manifest.sha256)) {
      this.index = undefined;
      this.#runs = undefined;
    }
    return found.state === 'complete' ? found.manifest : undefined;
  }

  /** Forgets what is known of some runs. @returns all, with these read anew by their manifests */
  readAnew(runs: readonly string[]): Promise<RecordRuns> {
    for (const run of runs) {
      this.index?.delete(run);
      this.#known.delete(run);
    }
    this.#runs = undefined;
    return this.runs();
  }

  /** The record with a run that is newer than all others. */
  withNewRun(runs: RecordRuns, manifest: Manifest, file: ManifestFile): RecordRuns {
    return { ...runs, complete: [this.summaries.of(manifest, file, this.verifications), ...runs.complete] };
  }
}
