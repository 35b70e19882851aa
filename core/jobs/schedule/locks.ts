/** Which run takes which locks: the one table (docs/architecture.md shows it). The queue gives a run all of its locks together. */
import { isRunName, recordFolder, recordPrefix } from '../../archive/record/layout.js';
import { type BackupSpec, containerOf, type Location, type RestoreSpec } from '../job.js';

export interface Lock {
  readonly key: string;
  /** `exclusive`: nobody else. `write`: neither reads nor writes beside it. `slot`: `most` at a time. */
  readonly mode: 'exclusive' | 'read' | 'write' | 'slot';
  readonly most?: number;
}

interface Row {
  /** What is read and frozen, or what is made and what that replaces. */
  readonly container?: 'exclusive';
  readonly record?: 'read' | 'write';
  /** A slot, where the target has a limit. */
  readonly connection?: true;
}

const table = {
  backup: { container: 'exclusive', record: 'write', connection: true }, // with its retention
  restore: { container: 'exclusive', record: 'read', connection: true },
  undo: { container: 'exclusive' }, // what it brings back lies beside the container
  purge: { record: 'write', connection: true },
} as const satisfies Readonly<Record<string, Row>>;

export type LockedRun = keyof typeof table;

/** What a run is about. */
export interface Subject {
  readonly type: string;
  readonly container: string;
  readonly place: Location;
  /** Names of the records that it may read or write; `*` is any of that place. */
  readonly records: readonly string[];
}

export function backupSubject({ type, container_id, dest, job_name }: BackupSpec): Subject {
  return { type, container: container_id, place: dest, records: [recordFolder(job_name)] };
}

export function restoreSubject(spec: RestoreSpec): Subject {
  return { type: spec.type, container: containerOf(spec), place: spec.src, records: recordsMeant(spec.src.portfolio) };
}

/** Records that a portfolio may mean. Which one has the job of an id, or the run of a time, only the target can tell. */
function recordsMeant(portfolio: string | undefined): string[] {
  const parts = portfolio?.split('/') ?? [];
  if (isRunName(parts.at(-1) ?? '')) parts.pop();
  const name = parts.join('/');
  if (name === '' || /^\d+$/.test(name)) return ['*'];
  return [recordFolder(name), ...(name.startsWith(recordPrefix) ? [name] : [])];
}

/** @param connections how many runs may use the target at a time; undefined for any number */
export function locksOf(run: LockedRun, { type, container, place, records }: Subject, connections?: number): Lock[] {
  const row: Row = table[run];
  const { record } = row;
  const target = place.target === 'remote' ? `target/${place.profile}` : 'local';
  const path = place.path.split('/').filter((part) => part !== '');
  return [
    ...(row.container ? [{ key: `container/${type}/${container}`, mode: row.container }] : []),
    ...(record ? records.map((name) => ({ key: ['record', target, ...path, name].join('/'), mode: record })) : []),
    ...(row.connection && connections !== undefined ? [{ key: target, mode: 'slot' as const, most: connections }] : []),
  ];
}

/** `…/*` is every record of that folder, and none of a folder below it. */
function isSame(a: string, b: string): boolean {
  if (a === b) return true;
  const [folderA, folderB] = [a, b].map((key) => key.slice(0, key.lastIndexOf('/') + 1));
  return folderA === folderB && (a.endsWith('/*') || b.endsWith('/*'));
}

const excludes = (a: Lock, b: Lock): boolean =>
  a.mode !== 'slot' && b.mode !== 'slot' && !(a.mode === 'read' && b.mode === 'read') && isSame(a.key, b.key);

/** Whether all of `wanted` can be had beside what is `held`, without passing what others `claim` who came before. */
export function areFree(wanted: readonly Lock[], held: readonly Lock[], claimed: readonly Lock[]): boolean {
  return wanted.every((lock) => {
    if (lock.mode === 'slot') return held.filter(({ key }) => key === lock.key).length < (lock.most ?? 1);
    return ![...held, ...claimed].some((other) => excludes(lock, other));
  });
}
