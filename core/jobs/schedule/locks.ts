/** The lock table (docs/architecture.md shows it): which run excludes which. The queue grants a run all of its locks together. */
import type { JobKind, JobSpecs } from '../job.js';
import { isKind, kinds, type LockRow } from '../kinds.js';

export interface Lock {
  readonly key: string;
  /** `exclusive` and `write` exclude every other lock of the key, `read` excludes `write`, and `connection` allows `most` at a time. */
  readonly mode: 'exclusive' | 'read' | 'write' | 'connection';
  readonly most?: number;
}

/** Errands of a job beside its runs, with their locks. */
export const errands = {
  undo: { kind: 'restore', locks: { container: 'exclusive' } }, // the replaced container lies beside the new one, not in a record
  purge: { kind: 'backup', locks: { record: 'write', connection: true } },
} as const satisfies Readonly<Record<string, { readonly kind: JobKind; readonly locks: LockRow }>>;

/** The kind of job of a run or an errand; undefined for another name. */
export function kindOf(name: string): JobKind | undefined {
  if (isKind(name)) return name;
  return name === 'undo' || name === 'purge' ? errands[name].kind : undefined;
}

/** Turns a lock row and a job's settings into locks.
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

/** `…/*` stands for every record of that folder, but not for records of folders below it. */
function isSame(a: string, b: string): boolean {
  if (a === b) return true;
  const [folderA, folderB] = [a, b].map((key) => key.slice(0, key.lastIndexOf('/') + 1));
  return folderA === folderB && (a.endsWith('/*') || b.endsWith('/*'));
}

const excludes = (a: Lock, b: Lock): boolean =>
  a.mode !== 'connection' && b.mode !== 'connection' && !(a.mode === 'read' && b.mode === 'read') && isSame(a.key, b.key);

/** Whether all `wanted` locks are free of those `held`, and of those `claimed` by runs that have waited longer. */
export function areFree(wanted: readonly Lock[], held: readonly Lock[], claimed: readonly Lock[]): boolean {
  return wanted.every((lock) => {
    if (lock.mode === 'connection') return held.filter(({ key }) => key === lock.key).length < (lock.most ?? 1);
    return ![...held, ...claimed].some((other) => excludes(lock, other));
  });
}
