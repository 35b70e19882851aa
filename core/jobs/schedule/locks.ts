/** Which run takes which locks: the one table (docs/architecture.md shows it). The queue gives a run all of its locks together. */
import type { JobKind, JobSpecs } from '../job.js';
import { isKind, kinds, type LockRow } from '../kinds.js';

export interface Lock {
  readonly key: string;
  /** `exclusive`: nobody else. `write`: neither reads nor writes beside it. `connection`: `most` at a time. */
  readonly mode: 'exclusive' | 'read' | 'write' | 'connection';
  readonly most?: number;
}

/** What is done with a job beside its runs, and the locks that it takes. */
export const errands = {
  undo: { kind: 'restore', locks: { container: 'exclusive' } }, // what it brings back lies beside the container
  purge: { kind: 'backup', locks: { record: 'write', connection: true } },
} as const satisfies Readonly<Record<string, { readonly kind: JobKind; readonly locks: LockRow }>>;

/** The kind of the job that a run or an errand is for; undefined for a name of neither. */
export function kindOf(name: string): JobKind | undefined {
  if (isKind(name)) return name;
  return name === 'undo' || name === 'purge' ? errands[name].kind : undefined;
}

/** The locks of a run: of a row, those that a job's settings mean.
 *  @param connections how many runs may use the target at a time; undefined for any number */
export function locksOf<Name extends JobKind>(row: LockRow, name: Name, spec: JobSpecs[Name], connections?: number): Lock[] {
  const kind = kinds[name];
  const { record } = row;
  const { target, profile, path } = kind.location(spec);
  const at = target === 'remote' ? `target/${profile}` : 'local';
  const folders = path.split('/').filter((part) => part !== '');
  return [
    ...(row.container ? [{ key: `container/${spec.type}/${kind.container(spec)}`, mode: row.container }] : []),
    ...(record ? kind.records(spec).map((one) => ({ key: ['record', at, ...folders, one].join('/'), mode: record })) : []),
    ...(row.connection && connections !== undefined ? [{ key: at, mode: 'connection' as const, most: connections }] : []),
  ];
}

/** `…/*` is every record of that folder, and none of a folder below it. */
function isSame(a: string, b: string): boolean {
  if (a === b) return true;
  const [folderA, folderB] = [a, b].map((key) => key.slice(0, key.lastIndexOf('/') + 1));
  return folderA === folderB && (a.endsWith('/*') || b.endsWith('/*'));
}

const excludes = (a: Lock, b: Lock): boolean =>
  a.mode !== 'connection' && b.mode !== 'connection' && !(a.mode === 'read' && b.mode === 'read') && isSame(a.key, b.key);

/** Whether all of `wanted` can be had beside what is `held`, without passing what others `claim` who came before. */
export function areFree(wanted: readonly Lock[], held: readonly Lock[], claimed: readonly Lock[]): boolean {
  return wanted.every((lock) => {
    if (lock.mode === 'connection') return held.filter(({ key }) => key === lock.key).length < (lock.most ?? 1);
    return ![...held, ...claimed].some((other) => excludes(lock, other));
  });
}
