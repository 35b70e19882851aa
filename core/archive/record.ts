/** The runs of a record on a target. Anybody may have made what lies there: what is wrong with one run is told with that run's
 *  name and stops nothing else, and no more of a run is in memory than what was asked for. */
import { type Entry, PluginError, type Target } from '../contract/index.js';
import { Slots } from '../policy/slots.js';
import { isRunName, manifestName } from './layout.js';
import { type Manifest, parseManifest } from './manifest.js';

/** A manifest names a few files a source; this is far beyond any. */
const mostBytes = 16 << 20;
/** A larger manifest takes several times its size while it is read: one at a time in a thread. */
const largeBytes = 1 << 20;
const large = new Slots(1);
/** Names of runs in memory. A record with more is listed again for the older ones. */
const mostNames = 50_000;
/** How many folders are looked into at a time; the first few one by one, since the newest is mostly the one. */
const mostLooks = 64;

/** What a run's folder holds: a whole manifest, one that cannot be used, or none. */
export type RecordedRun =
  | { readonly run: string; readonly state: 'complete'; readonly manifest: Manifest }
  | { readonly run: string; readonly state: 'damaged'; readonly why: string }
  | { readonly run: string; readonly state: 'empty' };

const manifestPath = (record: string, run: string): string => `${record}/${run}/${manifestName}`;

/** A file of known size as one buffer. @throws PluginError damaged: it has another size by now */
export async function wholeFile(target: Target, path: string, size: number, signal: AbortSignal): Promise<Buffer> {
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
async function largeTurn(signal: AbortSignal): Promise<() => void> {
  const free = await large.take(signal).catch((cause: unknown) => {
    throw new PluginError('aborted', 'stopped', { cause });
  });
  globalThis.gc?.();
  return free;
}

async function readManifest(target: Target, record: string, run: string, size: number, signal: AbortSignal): Promise<Manifest> {
  const path = manifestPath(record, run);
  if (size > mostBytes) throw new PluginError('damaged', `${path} has ${size} bytes, more than the ${mostBytes} of any manifest`);
  const free = size > largeBytes ? await largeTurn(signal) : () => undefined;
  try {
    const manifest = parseManifest(await wholeFile(target, path, size, signal), path);
    if (manifest.run !== run) throw new PluginError('damaged', `${path} is the manifest of ${manifest.run}; the folder was renamed`);
    return manifest;
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
    return there && readManifest(target, record, run, sizeOf(there, path), signal);
  });
}

function sizeOf({ folder, size }: Entry, path: string): number {
  if (folder) throw new PluginError('damaged', `${path} is a folder`);
  return size;
}

/** Names of runs before `before`, newest first, no more than are kept in memory. */
async function newestNames(target: Target, record: string, before: string): Promise<string[]> {
  let names: string[] = [];
  const newest = () => names.sort().reverse().slice(0, mostNames);
  for await (const { name, folder } of target.list(record)) {
    if (folder && name < before && isRunName(name)) names.push(name);
    if (names.length >= 2 * mostNames) names = newest();
  }
  return newest();
}

async function* namesOfRuns(target: Target, record: string): AsyncGenerator<string> {
  for (let before = '~'; ; ) {
    const names = await newestNames(target, record, before);
    yield* names;
    if (names.length < mostNames) return;
    before = names.at(-1) ?? '';
  }
}

/** Looks into several folders at a time, and reads one manifest after the other. */
async function* lookedInto(target: Target, record: string, runs: readonly string[], signal: AbortSignal): AsyncGenerator<RecordedRun> {
  const look = async (run: string): Promise<Entry | PluginError | undefined> =>
    target.stat(manifestPath(record, run)).catch((error: unknown) => {
      if (error instanceof PluginError) return error;
      throw error;
    });
  const found = await Promise.all(runs.map(look));
  for (const [n, run] of runs.entries()) {
    const there = found[n];
    const path = manifestPath(record, run);
    const read = async (): Promise<RecordedRun> => {
      if (there instanceof PluginError) throw there;
      if (there === undefined) return { run, state: 'empty' };
      return { run, state: 'complete', manifest: await readManifest(target, record, run, sizeOf(there, path), signal) };
    };
    yield await asDamage(path, perhapsOfFile, read).catch((error: unknown): RecordedRun => {
      if (error instanceof PluginError && error.code === 'damaged') return { run, state: 'damaged', why: error.message };
      throw error;
    });
  }
}

/** Every run of a record, newest first. A reader that has found what it wants stops: nothing older is looked at.
 *  @throws PluginError what is wrong with the target as a whole */
export async function* recordedRuns(target: Target, record: string, signal: AbortSignal): AsyncGenerator<RecordedRun> {
  let runs: string[] = [];
  let width = 1;
  for await (const run of namesOfRuns(target, record)) {
    runs.push(run);
    if (runs.length < width) continue;
    yield* lookedInto(target, record, runs, signal);
    runs = [];
    width = Math.min(mostLooks, 2 * width);
  }
  yield* lookedInto(target, record, runs, signal);
}
