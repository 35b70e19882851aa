/** The runs of a record on a target. Anybody may have made what lies there: what is wrong with one run is told with that run's
 *  name and stops nothing else, and no more of a run is in memory than what was asked for. */
import { createHash } from 'node:crypto';
import { type Entry, PluginError, type Target } from '../../contract/index.js';
import { Semaphore } from '../../primitives/semaphore.js';
import { isBaseName, isRunName, manifestName } from './layout.js';
import { type Manifest, parseManifest } from './manifest.js';

/** A manifest names a few files a source; this is far beyond any. */
const mostBytes = 16 << 20;
/** A larger manifest takes several times its size while it is read: one at a time in a thread. */
const largeBytes = 1 << 20;
const large = new Semaphore(1);
/** Names of runs in memory. A record with more is listed again for the older ones. */
const mostNames = 50_000;
/** How many folders are looked into at a time; the first few one by one, since the newest is mostly the one. */
export const mostLooks = 64;
/** Of the files at the top of a record in memory. */
const mostFiles = 10_000;

/** The file of a manifest, as sha256sum tells it. */
export interface ManifestFile {
  readonly sha256: string;
  readonly bytes: number;
}

/** What a run's folder holds: a whole manifest, one that cannot be used, or none. */
export type RecordedRun =
  | { readonly run: string; readonly state: 'complete'; readonly manifest: Manifest; readonly file: ManifestFile }
  | { readonly run: string; readonly state: 'damaged'; readonly why: string }
  | { readonly run: string; readonly state: 'empty' };

export const fileOf = (bytes: Buffer): ManifestFile => ({
  sha256: createHash('sha256').update(bytes).digest('hex'),
  bytes: bytes.length,
});

export const manifestPath = (record: string, run: string): string => `${record}/${run}/${manifestName}`;

/** What a stop ends fails as that, whatever the stream that it ended says. @throws PluginError aborted */
export async function unlessStopped<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  return work().catch((error: unknown) => {
    if (!signal.aborted || error instanceof PluginError) throw error;
    throw new PluginError('aborted', 'stopped', { cause: error });
  });
}

/** A file of known size as one buffer. @throws PluginError aborted; damaged: it has another size by now */
export async function wholeFile(target: Target, path: string, size: number, signal: AbortSignal): Promise<Buffer> {
  return unlessStopped(signal, () => readWhole(target, path, size, signal));
}

async function readWhole(target: Target, path: string, size: number, signal: AbortSignal): Promise<Buffer> {
  const whole = Buffer.alloc(size);
  let bytes = 0;
  for await (const chunk of await target.get(path, { signal })) {
    const given = Buffer.from(chunk);
    if (bytes + given.length <= size) given.copy(whole, bytes);
    bytes += given.length;
    if (bytes > size) break; // the stream is destroyed with the loop
  }
  if (bytes === size) return whole;
  throw new PluginError('damaged', `${path} has ${bytes > size ? 'more' : 'fewer'} than the ${size} bytes that it had a moment ago`);
}

/** Waits for the turn of a large manifest, with nothing of the last one in memory: by itself V8 waits for a few of them.
 *  @throws PluginError aborted */
async function largeOnes(signal: AbortSignal): Promise<() => void> {
  const free = await large.take(signal).catch((cause: unknown) => {
    throw new PluginError('aborted', 'stopped', { cause });
  });
  globalThis.gc?.();
  return free;
}

type ReadManifest = Pick<RecordedRun & { state: 'complete' }, 'manifest' | 'file'>;

async function readManifest(target: Target, record: string, run: string, size: number, signal: AbortSignal): Promise<ReadManifest> {
  const path = manifestPath(record, run);
  if (size > mostBytes) throw new PluginError('damaged', `${path} has ${size} bytes, more than the ${mostBytes} of any manifest`);
  const free = size > largeBytes ? await largeOnes(signal) : () => undefined;
  try {
    const bytes = await wholeFile(target, path, size, signal);
    const manifest = parseManifest(bytes, path);
    if (manifest.run !== run) throw new PluginError('damaged', `${path} is the manifest of ${manifest.run}; the folder was renamed`);
    return { manifest, file: fileOf(bytes) };
  } finally {
    free();
  }
}

/** What an error of a target says about the file that was asked for, not about the target. */
const ofFile: readonly string[] = ['damaged', 'denied', 'exists', 'in_use', 'invalid', 'not_found', 'unsupported'];
/** A disk with a bad block fails so for one file, too: whoever looks at many goes on to the next. */
export const perhapsOfFile: readonly string[] = [...ofFile, 'failed', 'io'];

/** @throws PluginError damaged for what is wrong with the file, and what is wrong with the target as it is */
export async function asDamage<T>(path: string, codes: readonly string[], work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PluginError && codes.includes(error.code)) || error.code === 'damaged') throw error;
    const message = error.message.includes(path) ? error.message : `${path} cannot be read: ${error.message}`;
    throw new PluginError('damaged', message, { cause: error });
  }
}

/** The manifest of a run; undefined when the run does not exist. @throws PluginError damaged */
export async function runManifest(target: Target, record: string, run: string, signal: AbortSignal): Promise<Manifest | undefined> {
  if (!isRunName(run)) return undefined;
  const path = manifestPath(record, run);
  return asDamage(path, ofFile, async () => {
    const there = await target.stat(path);
    return there && (await readManifest(target, record, run, sizeOf(there, path), signal)).manifest;
  });
}

function sizeOf({ folder, size }: Entry, path: string): number {
  if (folder) throw new PluginError('damaged', `${path} is a folder`);
  return size;
}

/** What lies at the top of a record, no more of it than is kept in memory. */
export interface RecordListing {
  /** Folders of runs, newest first, each with the time at which its folder was last written, where the target tells that. */
  readonly folders: ReadonlyMap<string, number | undefined>;
  /** The latest time of all that is there: the target's clock went on to this at least. */
  readonly latest: number;
  /** There are older runs than those in `folders`. */
  readonly isCut: boolean;
  /** Files that this format makes at the top, and what puts left there. */
  readonly files: readonly string[];
}

interface Names {
  readonly folders: ReadonlyMap<string, number | undefined>;
  readonly isCut: boolean;
}

/** Keeps the newest of the runs that are added. */
class NewestNames {
  #times = new Map<string, number | undefined>();
  #isCut = false;
  add(run: string, time: number | undefined): void {
    this.#times.set(run, time);
    if (this.#times.size >= 2 * mostNames) this.#cut();
  }
  #cut(): void {
    const sorted = [...this.#times].sort(([a], [b]) => (a < b ? 1 : -1));
    this.#isCut ||= sorted.length > mostNames;
    this.#times = new Map(sorted.slice(0, mostNames));
  }
  get names(): Names {
    this.#cut();
    return { folders: this.#times, isCut: this.#isCut };
  }
}

/** Lists a record once. @throws PluginError what is wrong with the target */
export async function listRecord(target: Target, record: string, each: (entry: Entry) => void = () => undefined): Promise<RecordListing> {
  const runs = new NewestNames();
  const files: string[] = [];
  let latest = 0;
  for await (const entry of target.list(record, { unfinished: true, modified: true, folderTimes: true })) {
    each(entry);
    const { name, folder, unfinished, modified } = entry;
    const time = modified === undefined ? undefined : Math.trunc(modified);
    latest = Math.max(latest, time ?? 0);
    if (folder && isRunName(name)) runs.add(name, time);
    else if (files.length < mostFiles && (unfinished || (!folder && isBaseName(name)))) files.push(name);
  }
  return { ...runs.names, latest, files };
}

/** All runs, newest first. No more names are in memory than a listing keeps: a record with more is listed again. */
export async function* namesOfRuns(target: Target, record: string): AsyncGenerator<string> {
  for (let before = '~'; ; ) {
    const newest = new NewestNames();
    for await (const { name, folder } of target.list(record)) if (folder && name < before && isRunName(name)) newest.add(name, undefined);
    const { folders, isCut } = newest.names;
    yield* folders.keys();
    if (!isCut) return;
    before = [...folders.keys()].at(-1) ?? '';
  }
}

/** What a look at a run's manifest gave: what is wrong with it, too. */
type Look = Entry | PluginError | undefined;

const look = async (target: Target, record: string, run: string): Promise<Look> =>
  target.stat(manifestPath(record, run)).catch((error: unknown) => {
    if (error instanceof PluginError) return error;
    throw error;
  });

async function readLooked(target: Target, record: string, run: string, there: Look, signal: AbortSignal): Promise<RecordedRun> {
  const path = manifestPath(record, run);
  const read = async (): Promise<RecordedRun> => {
    if (there instanceof PluginError) throw there;
    if (there === undefined) return { run, state: 'empty' };
    return { run, state: 'complete', ...(await readManifest(target, record, run, sizeOf(there, path), signal)) };
  };
  return asDamage(path, perhapsOfFile, read).catch((error: unknown): RecordedRun => {
    if (error instanceof PluginError && error.code === 'damaged') return { run, state: 'damaged', why: error.message };
    throw error;
  });
}

/** One run. @throws PluginError what is wrong with the target as a whole */
export async function readRun(target: Target, record: string, run: string, signal: AbortSignal): Promise<RecordedRun> {
  return readLooked(target, record, run, await look(target, record, run), signal);
}

/** Size of a run's manifest; undefined when there is none that can be looked at, so that reading it tells what is wrong. */
export async function manifestSize(target: Target, record: string, run: string): Promise<number | undefined> {
  const there = await look(target, record, run);
  return there instanceof PluginError || there?.folder ? undefined : there?.size;
}

/** Looks into several folders at a time, and reads one manifest after the other. */
async function* readInto(target: Target, record: string, runs: readonly string[], signal: AbortSignal): AsyncGenerator<RecordedRun> {
  const found = await Promise.all(runs.map((run) => look(target, record, run)));
  for (const [n, run] of runs.entries()) yield await readLooked(target, record, run, found[n], signal);
}

/** Every run of a record, newest first. A reader that has found what it wants stops: nothing older is looked at.
 *  @param names of the runs, newest first; without, the record is listed
 *  @throws PluginError what is wrong with the target as a whole */
export async function* readRuns(
  target: Target,
  record: string,
  signal: AbortSignal,
  names: Iterable<string> | AsyncIterable<string> = namesOfRuns(target, record),
): AsyncGenerator<RecordedRun> {
  let runs: string[] = [];
  let width = 1;
  for await (const run of names) {
    runs.push(run);
    if (runs.length < width) continue;
    yield* readInto(target, record, runs, signal);
    runs = [];
    width = Math.min(mostLooks, 2 * width);
  }
  yield* readInto(target, record, runs, signal);
}
