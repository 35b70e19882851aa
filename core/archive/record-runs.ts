/** A record as its writer sees it: its runs in short, what they need, and what nothing needs. */
import type { Entry, Target } from '../contract/index.js';
import { isBaseName, isRunFile, isRunName, manifestName, runName, runTime } from './layout.js';
import { type ArchiveEntry, imageSource, type Manifest } from './manifest.js';
import { recordedRuns } from './record.js';
import { Verifications } from './verifications.js';

/** What a writer wants of each run: some hundred bytes, whatever its manifest holds. */
export interface RunSummary {
  readonly run: string;
  readonly started: string;
  readonly ended: string;
  /** Bytes that lie in the run's own folder. */
  readonly own_bytes: number;
  readonly image?: { readonly digest: string; readonly archive: ArchiveEntry };
  /** Files that it needs and that were not whole when they were last read back; absent when there are none. */
  readonly failed?: readonly string[];
}
export type NewestRun = Pick<Manifest, 'run' | 'job' | 'seal' | 'sources' | 'archives' | 'warnings'> & {
  readonly container: Pick<Manifest['container'], 'name' | 'type'>;
};

export interface RecordRuns {
  /** Complete runs, newest first. */
  readonly complete: readonly RunSummary[];
  /** Runs whose manifest is there and cannot be used. What they name is not known, so nothing of the record is rubbish then. */
  readonly damaged: readonly { readonly run: string; readonly why: string }[];
  /** Of the newest complete run, on which the next one builds. */
  readonly newest?: NewestRun;
  /** Path in the record to the newest run that needs it; undefined when there are too many to know. */
  readonly needed: ReadonlyMap<string, string> | undefined;
}

/** What the paths of all runs may take. A thousand runs of a hundred sources are within it; beyond it nothing is collected. */
const mostNeeded = 32 << 20;
/** Of a path in the map, beside its characters. */
const perPath = 100;
/** What is collected at once; the rest is by the next run. */
const mostGone = 10_000;

const sum = (archives: readonly ArchiveEntry[]): number => archives.reduce((bytes, { stored_bytes }) => bytes + stored_bytes, 0);

function summaryOf(manifest: Manifest, verifications: Verifications): RunSummary {
  const { run, started, ended, image, archives } = manifest;
  const failed = verifications.failedOf(manifest).map(({ path }) => path);
  const archive = archives.find(({ source }) => source === imageSource);
  const own_bytes = sum(archives.filter(({ path }) => path.startsWith(`${run}/`)));
  return {
    run,
    started,
    ended,
    own_bytes,
    ...(image && archive && { image: { digest: image.digest, archive } }),
    ...(failed.length > 0 && { failed }),
  };
}

function newestOf({ run, job, seal, container: { name, type }, sources, archives, warnings }: Manifest): NewestRun {
  return { run, job, ...(seal && { seal }), container: { name, type }, sources, archives, ...(warnings && { warnings }) };
}

/** Paths inside the record that a run needs. */
function* pathsOf({ run, archives }: Manifest): Generator<string> {
  yield `${run}/${manifestName}`;
  for (const { path, snapshot } of archives) {
    yield path;
    if (snapshot) yield snapshot.path;
  }
}

class Needed {
  readonly #newest = new Map<string, string>();
  #size = 0;
  /** Runs come newest first. */
  add(manifest: Manifest): void {
    for (const path of pathsOf(manifest)) {
      if (this.#size > mostNeeded) return;
      if (this.#newest.has(path)) continue;
      this.#newest.set(path, manifest.run);
      this.#size += path.length + perPath;
    }
  }
  get paths(): ReadonlyMap<string, string> | undefined {
    return this.#size > mostNeeded ? undefined : this.#newest;
  }
}

export async function recordRuns(
  target: Target,
  record: string,
  signal: AbortSignal,
  verifications = new Verifications(),
): Promise<RecordRuns> {
  const complete: RunSummary[] = [];
  const damaged: { run: string; why: string }[] = [];
  const needed = new Needed();
  let newest: NewestRun | undefined;
  for await (const found of recordedRuns(target, record, signal)) {
    if (found.state === 'damaged') damaged.push({ run: found.run, why: found.why });
    if (found.state !== 'complete') continue;
    const { manifest } = found;
    newest ??= newestOf(manifest);
    complete.push(summaryOf(manifest, verifications));
    needed.add(manifest);
  }
  return { complete, damaged, needed: needed.paths, ...(newest && { newest }) };
}

/** A name that no run has, and after all that there are, whatever the clock says: what comes last by name is the newest. */
export async function freeRunName(target: Target, record: string, { complete, damaged }: RecordRuns): Promise<string> {
  const latest = [...complete, ...damaged].map(({ run }) => runTime(run));
  for (let time = Math.max(Date.now(), ...latest.map((one) => one + 1000)); ; time += 1000) {
    const run = runName(time);
    if ((await target.stat(`${record}/${run}`)) === undefined) return run;
  }
}

/** The record with a run that is newer than all others. */
export function withNewRun(runs: RecordRuns, manifest: Manifest): RecordRuns {
  const needed = runs.needed && new Map([...runs.needed, ...[...pathsOf(manifest)].map((path) => [path, manifest.run] as const)]);
  return { ...runs, complete: [summaryOf(manifest, new Verifications()), ...runs.complete], newest: newestOf(manifest), needed };
}

/** The record less its oldest complete runs: `count` stay, one at least. */
export function newestRuns(runs: RecordRuns, count: number): RecordRuns {
  const complete = runs.complete.slice(0, count);
  const oldest = complete.at(-1)?.run ?? '';
  // A path whose newest run is older than all that stay is needed by none of them.
  const needed = runs.needed && new Map([...runs.needed].filter(([, newest]) => newest >= oldest));
  return { ...runs, complete, needed };
}

/** Also what is unfinished: a record has one writer, which asks before it begins. */
async function* entriesOf(target: Target, folder: string): AsyncGenerator<Entry> {
  yield* target.list(folder, { unfinished: true });
}

/** Removes what no run of the record needs: leftovers of runs that were broken off or given up. Only names that this
 *  format makes are touched, and nothing at all when there is a run that is not known or not understood: what it needs
 *  cannot be told. @returns the paths that went */
export async function collectGarbage(target: Target, record: string, runs: RecordRuns): Promise<string[]> {
  const { needed } = runs;
  if (runs.damaged.length > 0 || needed === undefined) return [];
  const used = new Set([...needed.keys()].map((path) => path.split('/')[0]));
  const gone: string[] = [];
  for await (const { name, folder, unfinished } of entriesOf(target, record)) {
    if (folder && isRunName(name)) {
      const garbage = await garbageOf(target, record, name, { needed, isUsed: used.has(name) });
      if (garbage === undefined) return [];
      gone.push(...garbage.slice(0, mostGone - gone.length));
    } else if (gone.length < mostGone && (unfinished || (!folder && isBaseName(name) && !needed.has(name)))) gone.push(name);
  }
  for (const path of gone) await target.remove(`${record}/${path}`);
  return gone;
}

/** The run's folder as a whole, when nothing in it is needed or another's; else its files that are neither. Undefined when it
 *  holds a run that is not known. */
async function garbageOf(
  target: Target,
  record: string,
  run: string,
  { needed, isUsed }: { readonly needed: ReadonlyMap<string, string>; readonly isUsed: boolean },
): Promise<string[] | undefined> {
  const garbage: string[] = [];
  let isAllGarbage = !isUsed;
  for await (const { name, folder, unfinished } of entriesOf(target, `${record}/${run}`)) {
    if (name === manifestName && !needed.has(`${run}/${name}`)) return undefined;
    const isGarbage = unfinished || (!folder && isRunFile(name) && !needed.has(`${run}/${name}`));
    isAllGarbage &&= isGarbage;
    if (isGarbage && garbage.length < mostGone) garbage.push(`${run}/${name}`);
  }
  return isAllGarbage ? [run] : garbage;
}

/** Gives a run up: its manifest first, so that it never exists in part. What it alone needed is garbage then. */
export async function removeRun(target: Target, record: string, run: string): Promise<void> {
  await target.remove(`${record}/${run}/${manifestName}`);
}
