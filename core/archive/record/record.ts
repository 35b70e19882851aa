/** The runs of a record on a target. Anybody may have written them: a damaged run is reported under its name and stops no other,
 *  and memory holds no more of a run than was asked for. */
import { createHash } from 'node:crypto';
import { type Entry, PluginError, type Target } from '../../contract/index.js';
import { Semaphore } from '../../primitives/semaphore.js';
import { isBaseName, isRunName, manifestName } from './layout.js';
import { type Manifest, parseManifest } from './manifest.js';

/** Far beyond any manifest, which names a few files for each source. */
const mostBytes = 16 << 20;
/** Reading a manifest larger than this takes several times its size, so a thread reads one at a time. */
const largeBytes = 1 << 20;
const large = new Semaphore(1);
/** Names of runs in memory. A record with more is listed again for older ones. */
const mostNames = 50_000;
/** Most parallel lookups of manifests. A search begins with one at a time, since the newest run is mostly the right one. */
export const mostLooks = 64;
/** Most files at the top of a record in memory. */
const mostFiles = 10_000;

/** Hash and size of a manifest's file; `sha256` as sha256sum prints it. */
export interface ManifestFile {
  readonly sha256: string;
  readonly bytes: number;
}

/** A run's folder contains a whole manifest, an unusable one, or none. */
export type RecordedRun =
  | { readonly run: string; readonly state: 'complete'; readonly manifest: Manifest; readonly file: ManifestFile }
  | { readonly run: string; readonly state: 'damaged'; readonly why: string }
  | { readonly run: string; readonly state: 'empty' };

export const fileOf = (bytes: Buffer): ManifestFile => ({
  sha256: createHash('sha256').update(bytes).digest('hex'),
  bytes: bytes.length,
});

export const manifestPath = (record: string, run: string): string => `${record}/${run}/${manifestName}`;

/** Reports any failure after an abort as `aborted`, whatever the stream said. @throws PluginError aborted, or the work's own */
export async function unlessStopped<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  return work().catch((error: unknown) => {
    if (!signal.aborted || error instanceof PluginError) throw error;
    throw new PluginError('aborted', 'cancelled', { cause: error });
  });
}

/** A file of known size as one buffer. @throws PluginError aborted; damaged: its size has changed */
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
    if (bytes > size) break; // leaving the loop destroys the stream
  }
  if (bytes === size) return whole;
  throw new PluginError('damaged', `${path} has ${bytes > size ? 'more' : 'fewer'} than ${size} bytes, its size a moment ago`);
}

/** Waits for the permit to read a large manifest, and collects garbage of the last one: V8 alone would wait for a few of them.
 *  @throws PluginError aborted */
async function largeOnes(signal: AbortSignal): Promise<() => void> {
  const free = await large.take(signal).catch((cause: unknown) => {
    throw new PluginError('aborted', 'cancelled', { cause });
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

/** Codes by which a target reports a problem of the one file, not of the target. */
const ofFile: readonly string[] = ['damaged', 'denied', 'exists', 'in_use', 'invalid', 'not_found', 'unsupported'];
/** With those of a disk with a bad block: a reader of many files goes on to the next one. */
export const perhapsOfFile: readonly string[] = [...ofFile, 'failed', 'io'];

/** Reports errors with one of the codes as `damaged`. @throws PluginError damaged, or the target's own error */
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

/** The top of a record, within the limits of memory. */
export interface RecordListing {
  /** Folders of runs, newest first, with their mtime in epoch ms where the target reports it. */
  readonly folders: ReadonlyMap<string, number | undefined>;
  /** The latest mtime in the record: the target's clock is at least there. */
  readonly latest: number;
  /** Whether there are older runs than those in `folders`. */
  readonly isCut: boolean;
  /** Files of this format at the top, and unfinished uploads. */
  readonly files: readonly string[];
}

interface Names {
  readonly folders: ReadonlyMap<string, number | undefined>;
  readonly isCut: boolean;
}

/** Stores the newest of the names that are added. */
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

/** Lists a record once. @throws PluginError about the target */
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

/** All runs, newest first. Lists the record again whenever it has more names than memory may hold. */
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

/** The entry of a run's manifest, or the error of looking it up. */
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

/** Reads one run. @throws PluginError about the target as a whole */
export async function readRun(target: Target, record: string, run: string, signal: AbortSignal): Promise<RecordedRun> {
  return readLooked(target, record, run, await look(target, record, run), signal);
}

/** Size of a run's manifest; undefined when it is missing or cannot be looked up, so that the caller reads it and learns why. */
export async function manifestSize(target: Target, record: string, run: string): Promise<number | undefined> {
  const there = await look(target, record, run);
  return there instanceof PluginError || there?.folder ? undefined : there?.size;
}

/** Looks up several manifests at a time, and reads them one after the other. */
async function* readInto(target: Target, record: string, runs: readonly string[], signal: AbortSignal): AsyncGenerator<RecordedRun> {
  const found = await Promise.all(runs.map((run) => look(target, record, run)));
  for (const [n, run] of runs.entries()) yield await readLooked(target, record, run, found[n], signal);
}

/** Every run of a record, newest first. When the consumer stops, no older run is read.
 *  @param names of the runs, newest first; without them the record is listed
 *  @throws PluginError about the target as a whole */
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
