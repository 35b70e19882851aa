/** Chooses the level 0 that a source's new level builds on. */
import { type ArchiveEntry, fileSystemsOf, type NewestRun, type StoredSource } from '../../../archive/index.js';
import type { Source } from '../../../contract/index.js';

export type Base = ArchiveEntry & { readonly snapshot: NonNullable<ArchiveEntry['snapshot']> };

export interface BaseChoice {
  /** Undefined when a new base must be made. */
  readonly base?: Base;
  /** Bytes of the last level of the same kind, for the progress; undefined when there is none. */
  readonly expected?: number;
}

const hasSnapshot = (archive: ArchiveEntry): archive is Base => archive.snapshot !== undefined;

const sameTexts = (a: readonly string[], b: readonly string[]): boolean => JSON.stringify(a.toSorted()) === JSON.stringify(b.toSorted());

/** The sources as the manifest lists them. @throws PluginError io */
export async function sourcesOf(sources: readonly Source[], signal: AbortSignal): Promise<StoredSource[]> {
  const fileSystems = await fileSystemsOf(
    sources.map(({ path }) => path),
    signal,
  );
  return sources.map(({ name, origin, kind, excludes }, index) => {
    const on = fileSystems[index];
    return { name, origin, kind, ...(on !== undefined && { file_system: on }), ...(excludes.length > 0 && { excludes: [...excludes] }) };
  });
}

/** @param newest the newest complete run, if there is one
 *  @param ratio a differential larger than this part of its base makes a new base */
export function chooseBase(newest: NewestRun | undefined, source: StoredSource, ratio: number): BaseChoice {
  const levels = newest?.archives.filter((archive) => archive.source === source.name) ?? [];
  const base = levels.find((archive) => archive.level === 0);
  if (base === undefined) return {};
  const again = { expected: base.bytes };
  const before = newest?.sources.find(({ name }) => name === source.name);
  // A file that was excluded before is in no level, because it has not changed since; one that is excluded now is in the base.
  const same = before?.kind === source.kind && sameTexts(before.excludes ?? [], source.excludes ?? []);
  if (source.kind === 'file' || !same || !hasSnapshot(base)) return again;
  // Another disk may have the same names, the same inode numbers and files older than the base, so that tar would skip them.
  if (before.file_system === undefined || before.file_system !== source.file_system) return again;
  if (base.flags === undefined) return again; // a level searches flags only of changed files, so the base must have been searched
  const differential = levels.find((archive) => archive.level === 1);
  if (differential !== undefined && differential.bytes > base.bytes * ratio) return again;
  return { base, ...(differential !== undefined && { expected: differential.bytes }) };
}
