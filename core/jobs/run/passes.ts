/** The passes over a container's sources: one while it runs, and with `pause` a short one while it is frozen. */
import { join } from 'node:path';
import { type ArchiveEntry, besideArchive, childOutcome, inLanes, type LevelPlan } from '../../archive/index.js';
import { PluginError, type Source } from '../../contract/index.js';
import type { ArchiveWriter } from './archive-writer.js';
import type { Base } from './choose-base.js';
import { sourcesAtOnce } from './concurrency.js';
import type { Estimate } from './estimate.js';

/** One source on its way through the passes. */
export interface Track {
  readonly source: Source;
  base?: { readonly archive: Base; readonly snapshot: string };
  /** Name of a new level 0, without its suffix: of the record's top or of the run's folder. */
  readonly baseStem: string;
  readonly runStem: string;
  /** In restore order. */
  readonly archives: ArchiveEntry[];
  /** Snapshot of the latest level that was packed. */
  latest?: string;
}

export interface PassDeps {
  readonly storer: ArchiveWriter;
  readonly estimate: Estimate;
  /** For tar's snapshots; nothing else is kept there. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
  /** How many puts the target takes at a time. */
  readonly connections: number;
}

/** Syncs the file systems of the sources and gives the time from which changes must be seen again. A store through
 *  mmap into a page that is already dirty stamps nothing; into a page that was written back it does. */
export async function syncSources(sources: readonly Source[], signal: AbortSignal): Promise<number> {
  const reference = Date.now();
  const { code, stderr } = await childOutcome('sync', ['-f', '--', ...sources.map(({ path }) => path)], signal);
  if (code !== 0) throw new PluginError('io', `the file systems could not be synced: ${stderr.trim()}`, { retryable: true });
  return reference;
}

/** Whether a change while the container is still would be a fault: what others may write too is never still. */
function isStill(source: Source, shared: ReadonlySet<string>): boolean {
  return source.origin !== 'host' && !shared.has(source.name);
}

export interface PassOptions {
  readonly reference: number;
  /** The container is frozen or stopped for good. */
  readonly frozen: boolean;
  /** Sources that other containers use too. */
  readonly shared: ReadonlySet<string>;
}

/** The first level of each source in this run: its base, or the differential since it. */
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

/** @returns false when the base cannot be gone on from: a folder that was renamed is stored anew, and its files would
 *  no longer be one with their hard links elsewhere. */
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

/** What the manifest says of flags that it does not hold. */
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

/** The snapshot lies beside the base, so that any appliance can go on from it. */
async function withSnapshot(deps: PassDeps, _track: Track, archive: ArchiveEntry, local: string): Promise<ArchiveEntry> {
  return { ...archive, snapshot: await deps.storer.snapshot(besideArchive(archive.path, 'snar.zst'), local) };
}

/** An archive of the second pass on its way. */
export interface PendingArchive {
  readonly track: Track;
  readonly path: string;
  readonly stored: Promise<ArchiveEntry>;
}

/** What changed since the first pass; single files, which have no levels, are read here for the first time.
 *  Settles with the archives on their way as soon as all is read, so that the container goes on before they are durable.
 *  `moving` is told what was begun: when the pass fails, dropMoving takes it back, once the container goes on. */
export async function secondPass(
  deps: PassDeps,
  tracks: readonly Track[],
  files: readonly Track[],
  o: PassOptions,
  moving: PendingArchive[],
): Promise<() => Promise<void>> {
  for (const [index, track] of [...tracks, ...files].entries()) {
    // Before the next, not after the last: the container goes on before that one is durable.
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
  await read.catch(() => stored); // the put's own error says more
}

/** What cannot be taken back, because the target is away, is no part of the run and is collected by the next one. */
export async function dropPending(deps: PassDeps, moving: readonly PendingArchive[]): Promise<void> {
  await Promise.allSettled(moving.map(({ stored }) => stored));
  for (const { path } of moving) await deps.storer.drop(path).catch(() => undefined);
}
