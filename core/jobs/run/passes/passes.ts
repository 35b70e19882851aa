/** Two passes over a container's sources: the first while it runs, the second, short one while it is frozen (feature `pause`). */
import { join } from 'node:path';
import {
  type ArchiveEntry,
  type BlockTable,
  besideArchive,
  childOutcome,
  inLanes,
  type KnownFlags,
  type LevelPlan,
  type MovedFiles,
} from '../../../archive/index.js';
import { PluginError, type Source } from '../../../contract/index.js';
import { sourcesAtOnce } from '../concurrency.js';
import type { FetchedBase } from '../record/fetch-bases.js';
import type { ArchiveWriter, LevelPaths, StoredLevel } from './archive-writer.js';
import type { BigFiles, BigFilesOfSources, BigLevel, PlannedBlocks } from './big-files.js';
import { type Estimate, sizeOfFile } from './estimate.js';

/** A source and its archives so far. */
export interface Track {
  readonly source: Source;
  base?: FetchedBase;
  /** Name of a new level 0 without its suffix, in the record's or the run's folder. */
  readonly baseStem: string;
  readonly runStem: string;
  /** In restore order. */
  readonly archives: ArchiveEntry[];
  /** Snapshot file and block table of the latest packed level. */
  latest?: string;
  table?: BlockTable | undefined;
  /** Files that moved while the latest level was read. */
  moved?: MovedFiles | undefined;
}

export interface PassDeps {
  readonly bigFiles: BigFilesOfSources;
  /** Folder for tar's snapshot files. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
  readonly storer: ArchiveWriter;
  readonly estimate: Estimate;
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

export interface FirstPassOptions extends Pick<LevelPlan, 'looks'> {
  readonly reference: number;
}

/** Packs the first level of each source: its base, or the differential since its base. */
export async function firstPass(deps: PassDeps, tracks: readonly Track[], o: FirstPassOptions): Promise<void> {
  await inLanes(
    [...tracks.entries()],
    sourcesAtOnce(deps.connections),
    ([index, track]) => firstLevels(deps, track, index, o),
    () => deps.storer.giveUp(),
  );
}

async function firstLevels(deps: PassDeps, track: Track, index: number, o: FirstPassOptions): Promise<void> {
  if (await firstLevel(deps, track, index, o)) return;
  delete track.base;
  await firstLevel(deps, track, index, o);
}

/** @returns false when a new base is needed: tar stores a renamed folder whole, and its files would lose their hard links elsewhere. */
async function firstLevel(deps: PassDeps, track: Track, index: number, o: FirstPassOptions): Promise<boolean> {
  const { source, base } = track;
  const snapshot = join(deps.workFolder, `${index}.first.snar`);
  const paths = deps.storer.freePaths(base ? track.runStem : track.baseStem);
  const { reference, looks } = o;
  const plan = { source, snapshot, reference, looks, ...(base && { since: base.snapshot, flagsBefore: base.archive }) };
  const { archive, blocks } = await deps.storer.retryFromStart(source.name, async () => {
    const blocks = await findBlocks(deps, track, { before: base?.table, reference, looks });
    const onBytes = (bytes: number) => deps.estimate.did(source.name, bytes);
    const level = await deps.storer.level({ paths, plan, level: base ? 1 : 0, blocks, onBytes });
    const archive = await level.stored;
    track.moved = await level.moved;
    return { archive, blocks };
  });
  if (base && archive.outside_links && !base.archive.outside_links) {
    await deps.storer.drop(paths);
    return false;
  }
  if (base) track.archives.push(base.archive);
  track.archives.push(source.kind === 'folder' && !base ? await asBase(deps, archive, { snapshot, blocks }) : archive);
  track.latest = snapshot;
  track.table = blocks?.table;
  return true;
}

/** An early version made the base, with big files in its tar: then tar has them in each level until the next base. */
async function findBlocks({ bigFiles, estimate }: PassDeps, { source, base }: Track, level: BigLevel): Promise<PlannedBlocks | undefined> {
  const { before } = level;
  const files = bigFiles.of(source);
  if (base !== undefined) return before && files?.look({ ...level, before });
  const { blocks, bytes } = (await files?.find(level)) ?? { bytes: await sizeOfFile(source.path) };
  estimate.expectUnlessKnown(source.name, bytes);
  return blocks;
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

/** Stores the snapshot file and the block table beside the base, so that any appliance can make further levels. */
async function asBase(
  { storer }: PassDeps,
  archive: ArchiveEntry,
  { snapshot, blocks }: { readonly snapshot: string; readonly blocks: PlannedBlocks | undefined },
): Promise<ArchiveEntry> {
  const kept = await storer.snapshot(besideArchive(archive.path, 'snar.zst'), snapshot);
  if (blocks === undefined) return { ...archive, snapshot: kept, no_big_files: true };
  return { ...archive, snapshot: kept, table: await storer.table(besideArchive(archive.path, 'blocks.table'), blocks.table) };
}

/** An archive of the second pass whose put goes on. */
export interface PendingArchive {
  readonly track: Track;
  readonly paths: LevelPaths;
  readonly stored: Promise<ArchiveEntry>;
  /** A later one has all that it has: a single file that was read again. */
  isSuperseded?: true;
}

export interface SecondPassOptions {
  /** The container is paused for this pass. */
  readonly inPause: boolean;
}

/** Packs what changed since the first pass. Single files have no levels and are read here for the first time. It settles when
 *  everything is read, so that the container is resumed before the archives are durable. `moving` collects the puts: when the pass
 *  fails, dropPending removes them after the resume. */
export async function secondPass(
  deps: PassDeps,
  tracks: readonly Track[],
  files: readonly Track[],
  o: SecondPassOptions,
  moving: PendingArchive[],
): Promise<() => Promise<void>> {
  for (const [index, track] of [...tracks, ...files].entries()) await secondLevels(deps, track, index, o, moving);
  return async () => {
    const kept = moving.filter(({ isSuperseded }) => !isSuperseded);
    const archives = await Promise.all(kept.map(({ stored }) => stored));
    for (const [index, archive] of archives.entries()) kept[index]?.track.archives.push(archive);
    await dropPending(
      deps,
      moving.filter(({ isSuperseded }) => isSuperseded),
    );
  };
}

/** Limits for reading again: how often, ms, and bytes of the files that moved. The container waits. */
const mostAgain = 3;
const mostAgainMs = 1000;
const mostAgainBytes = 64 << 20;

/** What a level of the second pass builds on. A single file is always read whole. */
interface Before {
  readonly level: number;
  readonly snapshot?: string | undefined;
  readonly flags?: KnownFlags | undefined;
  readonly table?: BlockTable | undefined;
}

/** Packs a source's level. If files moved meanwhile, packs further levels: each brings what changed since the one before began. */
async function secondLevels(deps: PassDeps, track: Track, index: number, o: SecondPassOptions, moving: PendingArchive[]): Promise<void> {
  const last = track.archives.at(-1);
  let before: Before = { level: last === undefined ? 0 : last.level + 1, snapshot: track.latest, flags: last, table: track.table };
  const big = deps.bigFiles.of(track.source);
  let began = 0;
  for (let again = 0; ; again++) {
    const snapshot = join(deps.workFolder, `${index}.second-${again}.snar`);
    const suffix = before.snapshot === undefined ? '' : `.${again + 1}`;
    const { pending, moved, searched, table } = await secondLevel(deps, { track, before, big, snapshot, suffix }, o, moving);
    track.moved = moved;
    began ||= performance.now();
    if (!moved || again === mostAgain || !canSettle(moved) || performance.now() - began > mostAgainMs) return;
    if (track.source.kind === 'file') pending.isSuperseded = true;
    else before = { level: before.level + 1, snapshot, flags: await searched, table };
  }
}

const canSettle = ({ isStamped, bytes }: MovedFiles): boolean => isStamped && bytes <= mostAgainBytes;

interface SecondLevel extends Pick<StoredLevel, 'searched'> {
  readonly pending: PendingArchive;
  readonly table: BlockTable | undefined;
  readonly moved: MovedFiles | undefined;
}

interface SecondPlan {
  readonly track: Track;
  readonly before: Before;
  readonly big: BigFiles | undefined;
  readonly snapshot: string;
  readonly suffix: string;
}

async function secondLevel(
  deps: PassDeps,
  { track, before, big, snapshot, suffix }: SecondPlan,
  o: SecondPassOptions,
  moving: PendingArchive[],
): Promise<SecondLevel> {
  // Before the next one only: the container is resumed before the last one is durable.
  if (moving.length >= deps.connections) await moving[moving.length - deps.connections]?.stored;
  const { source } = track;
  const paths = deps.storer.freePaths(track.runStem, suffix);
  const reference = Date.now();
  const looks = true; // a pause does not stop others
  const blocks = before.table && (await big?.look({ before: before.table, reference, looks }));
  const plan = {
    ...{ source, snapshot, reference, looks, inPause: o.inPause },
    ...(before.snapshot !== undefined && { since: before.snapshot, ...(before.flags && { flagsBefore: before.flags }) }),
  };
  const level = await deps.storer.level({ paths, plan, level: before.level, blocks });
  const pending: PendingArchive = { track, paths, stored: level.stored };
  moving.push(pending);
  const found = await level.moved.catch(async () => {
    await level.stored; // its error says more
    return undefined;
  });
  return { pending, moved: found, searched: level.searched, table: blocks?.table };
}

/** Files that cannot be removed, because the target is away, are garbage that the next run collects. */
export async function dropPending(deps: PassDeps, moving: readonly PendingArchive[]): Promise<void> {
  await Promise.allSettled(moving.map(({ stored }) => stored));
  for (const { paths } of moving) await deps.storer.drop(paths).catch(() => undefined);
}
