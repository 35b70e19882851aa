/** A record on a target: its runs, what they need, and what nothing needs. */
import { type Entry, PluginError, type Target } from '../contract/index.js';
import { isBaseName, isRunFile, isRunName, manifestName } from './layout.js';
import { type Manifest, parsedManifest } from './manifest.js';

/** A manifest names a few files a source; this is far beyond any, and keeps memory bounded whatever lies there. */
const textLimit = 16 << 20;

/** A small file as text. @throws PluginError not_found, damaged (too large) */
export async function targetText(target: Target, path: string, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of await target.get(path, { signal })) {
    const buffer = Buffer.from(chunk);
    bytes += buffer.length;
    if (bytes > textLimit) throw new PluginError('damaged', `${path} is larger than any manifest`);
    chunks.push(buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export interface RecordRuns {
  /** Complete runs, newest first. */
  readonly complete: readonly Manifest[];
  /** Runs whose manifest is there and cannot be used. What they name is not known, so nothing of the record is rubbish then. */
  readonly damaged: readonly { readonly run: string; readonly why: string }[];
}

/** The manifest of a run; undefined when the run does not exist. @throws PluginError damaged */
export async function runManifest(target: Target, record: string, run: string, signal: AbortSignal): Promise<Manifest | undefined> {
  const path = `${record}/${run}/${manifestName}`;
  if (!isRunName(run) || (await target.stat(path)) === undefined) return undefined;
  const manifest = parsedManifest(await targetText(target, path, signal), path);
  if (manifest.run !== run) throw new PluginError('damaged', `${path} is the manifest of ${manifest.run}; the folder was renamed`);
  return manifest;
}

export async function recordRuns(target: Target, record: string, signal: AbortSignal): Promise<RecordRuns> {
  const names: string[] = [];
  for await (const { name, folder } of target.list(record)) if (folder && isRunName(name)) names.push(name);
  const complete: Manifest[] = [];
  const damaged: { run: string; why: string }[] = [];
  for (const run of names.sort().reverse()) {
    try {
      const manifest = await runManifest(target, record, run, signal);
      if (manifest !== undefined) complete.push(manifest);
    } catch (error) {
      if (!(error instanceof PluginError && error.code === 'damaged')) throw error;
      damaged.push({ run, why: error.message });
    }
  }
  return { complete, damaged };
}

/** Paths inside the record that the runs need. */
function neededPaths(runs: readonly Manifest[]): Set<string> {
  const archives = runs.flatMap((run) => run.archives);
  const manifests = runs.map(({ run }) => `${run}/${manifestName}`);
  return new Set([
    ...manifests,
    ...archives.map(({ path }) => path),
    ...archives.flatMap(({ snapshot }) => (snapshot ? [snapshot.path] : [])),
  ]);
}

/** Also what is unfinished: a record has one writer, which asks before it begins. */
async function entriesOf(target: Target, folder: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of target.list(folder, { unfinished: true })) entries.push(entry);
  return entries;
}

/** Removes what no run of the record needs: leftovers of runs that were broken off or given up. Only names that this
 *  format makes are touched, and nothing at all when there is a run that is not known or not understood: what it needs
 *  cannot be told. @returns the paths that went */
export async function collectGarbage(target: Target, record: string, runs: RecordRuns): Promise<string[]> {
  if (runs.damaged.length > 0) return [];
  const needed = neededPaths(runs.complete);
  const entries = await entriesOf(target, record);
  const folders = new Map<string, Entry[]>();
  for (const { name, folder } of entries) if (folder && isRunName(name)) folders.set(name, await entriesOf(target, `${record}/${name}`));
  for (const [run, files] of folders) {
    if (files.some(({ name }) => name === manifestName) && !needed.has(`${run}/${manifestName}`)) return [];
  }
  const isBase = ({ name, folder, unfinished }: Entry) => unfinished || (!folder && isBaseName(name) && !needed.has(name));
  const bases = entries.filter(isBase).map(({ name }) => name);
  const gone = [...bases, ...[...folders].flatMap(([run, files]) => garbageOf(run, files, needed))];
  for (const path of gone) await target.remove(`${record}/${path}`);
  return gone;
}

/** The run's folder as a whole, when nothing in it is needed or another's; else its files that are neither. */
function garbageOf(run: string, files: readonly Entry[], needed: ReadonlySet<string>): string[] {
  const isUnneeded = ({ name, folder, unfinished }: Entry) => unfinished || (!folder && isRunFile(name) && !needed.has(`${run}/${name}`));
  const unneeded = files.filter(isUnneeded);
  const isUsed = [...needed].some((path) => path.startsWith(`${run}/`));
  return !isUsed && unneeded.length === files.length ? [run] : unneeded.map(({ name }) => `${run}/${name}`);
}

/** Gives a run up: its manifest first, so that it never exists in part. What it alone needed is garbage then. */
export async function removeRun(target: Target, record: string, run: string): Promise<void> {
  await target.remove(`${record}/${run}/${manifestName}`);
}
