/** What belongs to a container, and the big files that would make a pause of it long. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { canCloneWithin, hashMs, heldElsewhere, leastPauseMs, lookForBigFiles, openTop, quoteName, showPath } from '../archive/index.js';
import { anySignal, type ContainerSummary, type Description, type Source } from '../contract/index.js';
import { queued, Semaphore } from '../primitives/semaphore.js';
import { type Engines, inTime } from './engines.js';

/** Files that are named, the largest first, and files that are found at all. */
const mostNamed = 100;
const mostFound = 10_000;
/** Of the search, which a container with millions of files would hold up. */
const searchMs = 3000;
/** A client waits for the answer. */
const answerMs = 30_000;
/** A search reads the disk that the runs read. */
const searches = new Semaphore(1);

interface NamedFile {
  readonly source: string;
  /** In the container; bytes that are no text are quoted. */
  readonly path: string;
  readonly size: number;
  /** A pause clones it and does not read it. */
  readonly cloned: boolean;
}

type ViewedSource = Pick<Source, 'name' | 'origin' | 'kind' | 'path' | 'unavailable'> & {
  /** In the container. */
  readonly mountpoint: string;
};

export interface ContainerView extends ContainerSummary {
  readonly sources: readonly ViewedSource[];
  /** The largest files that are stored by blocks. */
  readonly big_files: readonly NamedFile[];
  /** How many more were found. */
  readonly big_files_more: number;
  /** Whether the search saw all files. */
  readonly big_files_whole: boolean;
  /** Least size of a big file, bytes. */
  readonly big_file_bytes: number;
  /** Estimate for a pause in which all big files that were found have changed, ms. */
  readonly longest_pause_ms: number;
}

export interface ViewOptions {
  /** Least size of a big file, bytes. */
  readonly least: number;
  /** Of the service. */
  readonly signal: AbortSignal;
}

interface Search {
  readonly least: number;
  /** Path for a file of names. */
  readonly list: string;
  readonly most: number;
  readonly until: AbortSignal;
}

interface Found {
  readonly files: readonly NamedFile[];
  readonly isWhole: boolean;
}

/** Single files are left to tar. */
async function searchSource(source: Source & ViewedSource, { most, until, ...search }: Search, signal: AbortSignal): Promise<Found> {
  const { kind, path, excludes, unavailable, name, mountpoint } = source;
  if (kind !== 'folder' || unavailable !== undefined) return { files: [], isWhole: true };
  const held = await heldElsewhere(path);
  await using top = held ?? (await openTop(path));
  const tree = { kind, path, access: 'read', held } as const;
  const { files, isWhole } = await lookForBigFiles({ tree, excludes, ...search }, { most, until }, signal);
  const cloned = files.length > 0 && (await canCloneWithin(top, signal));
  const shown = files.map((file) => ({ source: name, path: join(mountpoint, showPath(quoteName(file.path))), size: file.size, cloned }));
  return { files: shown, isWhole };
}

/** Each source gets an equal part of the time that is left, so that a large root leaves some for the volumes. */
async function searchAll(sources: readonly (Source & ViewedSource)[], least: number, signal: AbortSignal): Promise<Found> {
  const folder = await mkdtemp(join(tmpdir(), 'big-files-'));
  const end = performance.now() + searchMs;
  const files: NamedFile[] = [];
  let isWhole = true;
  try {
    for (const [n, source] of sources.entries()) {
      const until = AbortSignal.timeout(Math.max(0, Math.round((end - performance.now()) / (sources.length - n))));
      const search = { least, list: join(folder, 'names'), most: mostFound - files.length, until };
      const found = await searchSource(source, search, signal);
      files.push(...found.files);
      isWhole &&= found.isWhole;
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return { files, isWhole };
}

/** The mount point of each source, by its name. */
const mountpointsOf = ({ volume }: Description): ReadonlyMap<string, string> =>
  new Map(volume.map(({ name, mountpoint }) => [name, join('/', mountpoint)]));

export async function viewContainer(
  engines: Pick<Engines, 'runtime'>,
  { type, id, gone }: { readonly type: string; readonly id: string; readonly gone: AbortSignal },
  { least, signal: closing }: ViewOptions,
): Promise<ContainerView> {
  const runtime = engines.runtime(type);
  const description = await inTime(runtime.describe(id), type);
  const { name, image, state } = description;
  const mountpoints = mountpointsOf(description);
  const sources = (await inTime(runtime.sources(name), type)).map((one) => ({ ...one, mountpoint: mountpoints.get(one.name) ?? '/' }));
  const signal = anySignal(closing, gone, AbortSignal.timeout(answerMs));
  const { files, isWhole } = await queued(searches, signal, () => searchAll(sources, least, signal));
  const read = files.reduce((bytes, { size, cloned }) => bytes + (cloned ? 0 : size), 0);
  return {
    ...{ id: name, name, image, state, type },
    sources: sources.map(({ excludes: _excludes, ...shown }) => shown),
    big_files: files.toSorted((a, b) => b.size - a.size).slice(0, mostNamed),
    big_files_more: Math.max(0, files.length - mostNamed),
    big_files_whole: isWhole,
    big_file_bytes: least,
    longest_pause_ms: Math.round(leastPauseMs + hashMs(read)),
  };
}
