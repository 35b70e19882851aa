/** Two passes over a container's sources: the first while it runs, the second, short one while it is frozen (feature `pause`). */
import { join } from 'node:path';
import { type ArchiveEntry, besideArchive, childOutcome, inLanes, type LevelPlan } from '../../archive/index.js';
import { PluginError, type Source } from '../../contract/index.js';
import type { ArchiveWriter } from './archive-writer.js';
import { sourcesAtOnce } from './concurrency.js';
import type { Estimate } from './estimate.js';
import type { Base } from './record/choose-base.js';

/** A source and its archives so far. */
export interface Track {
  readonly source: Source;
  base?: { readonly archive: Base; readonly snapshot: string };
  /** Name of a new level 0 without its suffix, in the record's or the run's folder. */
  readonly baseStem: string;
  readonly runStem: string;
  /** In restore order. */
  readonly archives: ArchiveEntry[];
  /** Snapshot file of the latest packed level. */
  latest?: string;
}

export interface PassDeps {
  readonly storer: ArchiveWriter;
  readonly estimate: Estimate;
  /** Folder for tar's snapshot files. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
  /** Puts that the target takes at a time. */
  readonly connections: number;
}

/** Syncs the file systems of the sources (syncfs), and returns the time from which changes count. A store through mmap changes the
 *  mtime only of a page that was clean, so dirty pages must be written back first. */
export async function syncSources(sources: readonly Source[], signal: AbortSignal): Promise<number> {
  const reference = Date.now();
  const { code, stderr } = await childOutcome('sync', ['-f', '--', ...sources.map(({ path }) => path)], signal);
  if (code !== 0) throw new PluginError('io', `the file systems could not be synced: ${stderr.trim()}`, { retryable: true });
  return reference;
}

/** Whether a change during the read is an error. Sources that other containers write to may change at any time. */
function isStill(source: Source, shared: ReadonlySet<string>): boolean {
  return source.origin !== 'host' && !shared.has(source.name);
}

export interface PassOptions {
  readonly reference: number;
  /** The container is frozen or stopped. */
  readonly frozen: boolean;
  /** Sources that other containers use as well. */
  readonly shared: ReadonlySet<string>;
}

/** Packs the first level of each source: its base, or the differential since its base. */
export async function firstPass(deps: PassDeps, tracks: readonly Track[], o: PassOptions): Promise<void> {
  await inLanes(
    [...tracks.entries()],
    sourcesAtOnce(deps.connections),
    ([index, track]) => firstLevels(deps, track, index, o),
    () => deps.storer.giveUp(),
  );
}

async function firstLevels(deps: PassDeps, track: Track, index: number, o: PassOptions): Promise<void> {
  if (await firstLevel(deps, track, index, o)) return;
  delete track.base;
  await firstLevel(deps, track, index, o);
}

/** @returns false when a new base is needed: tar stores a renamed folder whole, and its files would lose their hard links elsewhere. */
async function firstLevel(deps: PassDeps, track: Track, index: number, o: PassOptions): Promise<boolean> {
  const { source, base } = track;
  const snapshot = join(deps.workFolder, `${index}.first.snar`);
  const path = deps.storer.freePath(base ? track.runStem : track.baseStem);
  const level = base ? 1 : 0;
  const plan = {
    source,
    snapshot,
    reference: o.reference,
    still: o.frozen && isStill(source, o.shared),
    ...(base && { since: base.snapshot, flagsBefore: base.archive }),
  };
  const archive = await deps.storer.retryFromStart(source.name, async () => {
    const { stored } = await deps.storer.level(path, plan, level, (bytes) => deps.estimate.did(source.name, bytes));
    return stored;
  });
  if (base && archive.outside_links && !base.archive.outside_links) {
    await deps.storer.drop(path);
    return false;
  }
  if (base) track.archives.push(base.archive);
  track.archives.push(source.kind === 'folder' && !base ? await withSnapshot(deps, track, archive, snapshot) : archive);
  track.latest = snapshot;
  return true;
}

function flagsBefore({ archives }: Track): Pick<LevelPlan, 'flagsBefore'> {
  const before = archives.at(-1);
  return before ? { flagsBefore: before } : {};
}

/** The `left_out` entry for inode flags beyond the manifest's limit. */
export function flagsLeftOut({ source, archives }: Track): { readonly path: string; readonly reason: string }[] {
  const count = archives.at(-1)?.flags_left_out ?? 0;
  if (count === 0) return [];
  return [
    {
      path: source.path,
      reason: `the inode flags (chattr) of up to ${count} entries, more than a manifest takes; what they hold is backed up`,
    },
  ];
}

/** Stores the snapshot file beside the base, so that any appliance can make further levels. */
async function withSnapshot(deps: PassDeps, _track: Track, archive: ArchiveEntry, local: string): Promise<ArchiveEntry> {
  return { ...archive, snapshot: await deps.storer.snapshot(besideArchive(archive.path, 'snar.zst'), local) };
}

/** An archive of the second pass whose put goes on. */
export interface PendingArchive {
  readonly track: Track;
  readonly path: string;
  readonly stored: Promise<ArchiveEntry>;
}

/** Packs what changed since the first pass. Single files have no levels and are read here for the first time. It settles when
 *  everything is read, so that the container is resumed before the archives are durable. `moving` collects the puts: when the pass
 *  fails, dropPending removes them after the resume. */
export async function secondPass(
  deps: PassDeps,
  tracks: readonly Track[],
  files: readonly Track[],
  o: PassOptions,
  moving: PendingArchive[],
): Promise<() => Promise<void>> {
  for (const [index, track] of [...tracks, ...files].entries()) {
    // Before the next one only: the container is resumed before the last one is durable.
    if (moving.length >= deps.connections) await moving[moving.length - deps.connections]?.stored;
    await secondLevel(deps, track, index, o, moving);
  }
  return async () => {
    const archives = await Promise.all(moving.map(({ stored }) => stored));
    for (const [index, archive] of archives.entries()) moving[index]?.track.archives.push(archive);
  };
}

async function secondLevel(deps: PassDeps, track: Track, index: number, o: PassOptions, moving: PendingArchive[]): Promise<void> {
  const { source, latest } = track;
  const snapshot = join(deps.workFolder, `${index}.second.snar`);
  const path = deps.storer.freePath(track.runStem, latest === undefined ? '' : '.1');
  const level = latest === undefined ? 0 : (track.archives.at(-1)?.level ?? 0) + 1;
  const plan = {
    source,
    snapshot,
    reference: o.reference,
    still: isStill(source, o.shared),
    inPause: true,
    ...(latest !== undefined && { since: latest, ...flagsBefore(track) }),
  };
  const { read, stored } = await deps.storer.level(path, plan, level, () => undefined);
  moving.push({ track, path, stored });
  await read.catch(() => stored); // the error of the put says more
}

/** Files that cannot be removed, because the target is away, are garbage that the next run collects. */
export async function dropPending(deps: PassDeps, moving: readonly PendingArchive[]): Promise<void> {
  await Promise.allSettled(moving.map(({ stored }) => stored));
  for (const { path } of moving) await deps.storer.drop(path).catch(() => undefined);
}
