/** What belongs to a container, and the big files that would make a pause of it long. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BigFile, bytesHashedPerSecond, findBigFiles, heldElsewhere, quoteName, showPath } from '../archive/index.js';
import { anySignal, type ContainerSummary, PluginError, type Runtime, type Source } from '../contract/index.js';

/** Files that are named, the largest first. */
const mostFiles = 100;
/** A client waits for the answer. */
const answerMs = 30_000;

export interface ContainerView extends ContainerSummary {
  readonly sources: readonly (Pick<Source, 'name' | 'origin' | 'kind' | 'path'> & { readonly unavailable?: string })[];
  /** The largest files that are stored by blocks. */
  readonly big_files: readonly { readonly source: string; readonly path: string; readonly size: number }[];
  /** How many more there are. */
  readonly big_files_more: number;
  /** Ms of a pause in which all of them must be read, on a file system that does not clone. */
  readonly longest_pause_ms: number;
}

export interface ViewOptions {
  /** Least size of a big file, bytes. */
  readonly least: number;
  readonly signal: AbortSignal;
}

async function summaryOf(runtime: Runtime, id: string): Promise<ContainerSummary> {
  for await (const one of runtime.list()) if (one.id === id || one.name === id) return one;
  throw new PluginError('not_found', `there is no container ${id}`);
}

async function bigFilesOf(source: Source, list: string, { least, signal }: ViewOptions): Promise<BigFile[]> {
  const { kind, path, excludes, unavailable } = source;
  if (kind !== 'folder' || unavailable !== undefined) return [];
  const held = await heldElsewhere(path);
  try {
    return await findBigFiles({ tree: { kind, path, access: 'read', held }, least, excludes, list }, signal);
  } finally {
    await held?.close();
  }
}

type NamedFile = ContainerView['big_files'][number];

/** All big files, the largest first. */
async function namedFiles(sources: readonly Source[], o: ViewOptions): Promise<NamedFile[]> {
  const folder = await mkdtemp(join(tmpdir(), 'big-files-'));
  try {
    const found: NamedFile[] = [];
    for (const source of sources)
      for (const { path, size } of await bigFilesOf(source, join(folder, 'names'), o))
        found.push({ source: source.name, path: showPath(quoteName(path)), size });
    return found.sort((a, b) => b.size - a.size);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @throws PluginError not_found, unavailable */
export async function viewContainer(runtime: Runtime, id: string, o: ViewOptions): Promise<ContainerView> {
  const summary = await summaryOf(runtime, id);
  const sources = await runtime.sources(summary.id);
  const found = await namedFiles(sources, { ...o, signal: anySignal(o.signal, AbortSignal.timeout(answerMs)) });
  const bytes = found.reduce((sum, { size }) => sum + size, 0);
  return {
    ...summary,
    sources: sources.map(({ name, origin, kind, path, unavailable }) => ({ name, origin, kind, path, ...(unavailable && { unavailable }) })),
    big_files: found.slice(0, mostFiles),
    big_files_more: Math.max(0, found.length - mostFiles),
    longest_pause_ms: Math.round((bytes / bytesHashedPerSecond) * 1000),
  };
}
