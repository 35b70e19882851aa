/** One restore: extracts a run's archives into a draft, checks every byte by its hash, and swaps the draft in last. */
import { pipeline, type Readable } from 'node:stream';
import {
  type ArchiveEntry,
  checkStored,
  imageSource,
  inLanes,
  type Manifest,
  Meter,
  restoredFilesOf,
  type Sealer,
  type StoredFile,
  setFlags,
  storedBytesOf,
  zstdStream,
} from '../../archive/index.js';
import {
  anySignal,
  type Conflict,
  type Draft,
  type PlannedPlace,
  PluginError,
  type PluginLog,
  type RestorePlan,
  type Runtime,
  type Source,
  type Target,
  type Warning,
} from '../../contract/index.js';
import { requestConsent, requireConsent } from '../../targets/consent.js';
import type { FoundRun } from '../../targets/find-run.js';
import { findRestoredRun, placeWarnings, planRestore } from '../../targets/restore-plan.js';
import { neededArchives, refuseNested, refuseNestedPlaces } from '../../targets/restored-part.js';
import { containerOf, type RestoreSpec, type Undo } from '../job.js';
import { sourcesAtOnce } from './concurrency.js';
import { extractSource } from './extract-source.js';

export interface RestoreDeps {
  readonly spec: RestoreSpec;
  readonly runtime: Runtime;
  readonly sealer: Sealer;
  /** Folders of the configured shares: a mount inside them needs no consent. */
  readonly shares: readonly string[];
  readonly target: Target;
  /** How long the replaced container is kept for an undo. */
  readonly undoMs: number;
  /** For small files; removed after the run. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  progress(percent: number): void;
}
export interface RestoreOutcome {
  readonly run: string;
  readonly bytes: number;
  readonly conflicts: readonly Conflict[];
  readonly places: readonly PlannedPlace[];
  readonly warnings?: readonly Warning[];
  readonly undo?: Undo;
}

/** The conflict that stops a restore: a running container uses the data. */
const blocking = 'volume_in_use';

/** Runs the restore. A restore that fails leaves the container as it was.
 *  @throws PluginError needs_consent (rights over the host without consent) */
export async function restoreRun(deps: RestoreDeps): Promise<RestoreOutcome> {
  const { runtime, target, spec, signal } = deps;
  await runtime.recover(containerOf(spec)); // only this container's leftovers; others recover their own
  const found = await findRestoredRun(target, spec, signal);
  const until = Date.now() + deps.undoMs;
  const plan = { ...(await planRestore(runtime, spec, found.manifest)), ...(deps.undoMs > 0 && { undoUntil: until }) };
  const preview = await runtime.preview(plan, { shares: deps.shares });
  refuseNestedPlaces(preview, found.manifest);
  requireConsent(requestConsent(deps.sealer, preview.grants, found.whole), spec.consent);
  refuseBlocking(preview.conflicts);
  await checkStoredSizes(target, found, plan);
  const draft = await runtime.draft(plan, { signal });
  try {
    const bytes = await fillDraft(deps, draft, found);
    const { conflicts, undo: id, undoBytes = 0, ...placement } = await draft.commit();
    const { places } = placement;
    const warnings = [...found.warnings, ...placeWarnings(placement)];
    const undo = id === undefined ? {} : { undo: { id, until, bytes: undoBytes } };
    return { run: found.manifest.run, bytes, conflicts, places, ...(warnings.length > 0 && { warnings }), ...undo };
  } catch (error) {
    await draft
      .discard()
      .catch((cause: unknown) =>
        deps.log('warn', `the draft of ${plan.container} could not be removed now; the engine's next recovery removes it: ${cause}`),
      );
    throw error;
  }
}

function refuseBlocking(conflicts: readonly Conflict[]): void {
  const first = conflicts.find(({ code }) => code === blocking);
  if (first) throw new PluginError('in_use', `${first.what}: ${first.fix}, then restore again`);
}

/** Checks that every archive is there in its full size before anything is built. @throws PluginError damaged */
async function checkStoredSizes(target: Target, { record, manifest }: FoundRun, { action }: RestorePlan): Promise<void> {
  for (const { path, stored_bytes } of neededArchives(manifest, action).flatMap(restoredFilesOf)) {
    const there = await target.stat(`${record}/${path}`);
    if (there?.size === stored_bytes) continue;
    const what = there ? `has ${there.size} bytes instead of ${stored_bytes}` : 'is missing';
    throw new PluginError('damaged', `${record}/${path} ${what}; restore from another run`);
  }
}

/** Loads the image and extracts each source's levels in order. @returns the stored bytes that were read */
async function fillDraft(deps: RestoreDeps, draft: Draft, { record, manifest }: FoundRun): Promise<number> {
  const { target } = deps;
  const given = new AbortController();
  const signal = anySignal(deps.signal, given.signal);
  const total = manifest.archives.reduce((sum, archive) => sum + storedBytesOf(archive), 0);
  let done = 0;
  const open = async ({ path }: StoredFile): Promise<Readable> => {
    const stored = await target.get(`${record}/${path}`, { signal });
    stored.on('data', (chunk: Buffer) => {
      done += chunk.length;
      if (total > 0) deps.progress(Math.min(99, Math.floor((done * 100) / total)));
    });
    return stored.pause();
  };
  const images = manifest.archives.filter(({ source }) => source === imageSource);
  for (const archive of draft.needsImage ? images : []) await loadImage(draft, archive, await open(archive), signal);
  const folders = await draft.folders();
  const extract = async (source: Pick<Source, 'name' | 'kind'>): Promise<void> => {
    const folder = folders.get(source.name) ?? '';
    const levels = manifest.archives.filter((one) => one.source === source.name);
    await extractSource({ source, folder, levels, workFolder: deps.workFolder, open, signal });
    await setFlagsOf(deps, manifest, { source: source.name, folder });
  };
  const sources = sourcesToFill(manifest, folders);
  await refuseNested(folders);
  await inLanes(sources, sourcesAtOnce(target.supports.connections), extract, () => given.abort());
  return done;
}

/** The last level lists the inode flags of all entries. */
async function setFlagsOf(
  deps: RestoreDeps,
  { archives }: Manifest,
  { source, folder }: { source: string; folder: string },
): Promise<void> {
  const { flags = [] } = archives.findLast((one) => one.source === source) ?? {};
  const said = await setFlags(folder, flags, deps.signal);
  if (said !== '') deps.log('warn', `inode flags of ${source} could not be set: ${said}`);
}

/** The sources to extract. A source that another container has is joined and not extracted.
 *  @throws PluginError damaged when a source belongs to nothing of the container */
function sourcesToFill({ sources, container }: Manifest, folders: ReadonlyMap<string, string>): Manifest['sources'] {
  const stray = sources.find(({ name }) => !folders.has(name) && !container.volume.some((volume) => volume.name === name));
  if (stray) throw new PluginError('damaged', `the run holds ${stray.name}, which its container does not have`);
  return sources.filter(({ name }) => folders.has(name));
}

/** The engine loads the image before its hash is checked. When the hash is wrong, discarding the draft removes the image again. */
async function loadImage(draft: Draft, archive: ArchiveEntry, stored: Readable, signal: AbortSignal): Promise<void> {
  const meter = new Meter();
  pipeline(stored, meter, () => undefined);
  await draft.loadImage(archive.compression === 'zstd' ? zstdStream(meter, 'decompress', signal) : meter);
  checkStored(meter, archive);
}
