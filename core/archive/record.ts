/** A record on a target: its runs, what they need, and what nothing needs. */
import { PluginError, type Target } from '../contract/index.js';
import { isBaseName, isRunName, manifestName } from './layout.js';
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

/** Removes what no run of the record needs: leftovers of runs that were broken off or given up. Only names that this
 *  format makes are touched. @returns the paths that went */
export async function collectGarbage(target: Target, record: string, runs: RecordRuns): Promise<string[]> {
  if (runs.damaged.length > 0) return [];
  const needed = neededPaths(runs.complete);
  const gone: string[] = [];
  const drop = async (path: string) => {
    await target.remove(`${record}/${path}`);
    gone.push(path);
  };
  const entries = [];
  for await (const entry of target.list(record)) entries.push(entry);
  for (const { name, folder } of entries) {
    if (!folder && isBaseName(name) && !needed.has(name)) await drop(name);
    if (!folder || !isRunName(name)) continue;
    const used = [...needed].some((path) => path.startsWith(`${name}/`));
    if (!used) await drop(name);
    else
      await dropUnneeded(
        target,
        `${record}/${name}`,
        (file) => needed.has(`${name}/${file}`),
        (file) => drop(`${name}/${file}`),
      );
  }
  return gone;
}

async function dropUnneeded(
  target: Target,
  folder: string,
  isNeeded: (file: string) => boolean,
  drop: (file: string) => Promise<void>,
): Promise<void> {
  const files: string[] = [];
  for await (const entry of target.list(folder)) if (!entry.folder && !isNeeded(entry.name)) files.push(entry.name);
  for (const file of files) await drop(file);
}

/** Gives a run up: its manifest first, so that it never exists in part. What it alone needed is garbage then. */
export async function removeRun(target: Target, record: string, run: string): Promise<void> {
  await target.remove(`${record}/${run}/${manifestName}`);
}
