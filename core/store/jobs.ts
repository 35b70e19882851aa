/** Rows of jobs and leases. */
import { foldName, type JobKind, type JobRow, type JobRows, type JobSpecs, type Lease, type LeaseRows } from '../jobs/job.js';
import { kinds } from '../jobs/kinds.js';
import { parse } from '../schemas.js';
import type { Database } from './copies/database.js';
import { openTable, type RowFormat } from './row-format.js';

function numberOf(value: unknown, what: string): number {
  if (typeof value !== 'number') throw new Error(`damaged row: ${what} is not a number`);
  return value;
}
function textOf(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new Error(`damaged row: ${what} is not a text`);
  return value;
}

/** A kind's spec is checked by the schema that also checks requests. */
function jobKind<Name extends JobKind>(name: Name): RowFormat<JobRow<JobSpecs[Name]>> {
  return {
    name,
    version: 1,
    steps: {},
    read: (f) => ({
      id: numberOf(f.id, 'id'),
      spec: kinds[name].parse(f.spec),
      state: parse('backup#/$defs/state', f.state),
    }),
    write: ({ id, spec, state }) => ({ id, spec, state }),
  };
}

const remoteOf = <Name extends JobKind>(name: Name, spec: JobSpecs[Name]): number | undefined => kinds[name].location(spec).profile;

/** An in-memory index of job ids by record name and target. */
class JobIndex<Name extends JobKind> {
  constructor(private readonly kind: Name) {}

  readonly #names = new Map<string, Set<number>>();
  readonly #targets = new Map<number, Set<number>>();

  add({ id, spec }: JobRow<JobSpecs[Name]>): void {
    const target = remoteOf(this.kind, spec);
    put(this.#names, foldName(spec.job_name), id);
    if (target !== undefined) put(this.#targets, target, id);
  }
  remove({ id, spec }: JobRow<JobSpecs[Name]>): void {
    const target = remoteOf(this.kind, spec);
    take(this.#names, foldName(spec.job_name), id);
    if (target !== undefined) take(this.#targets, target, id);
  }
  named = (name: string): number[] => [...(this.#names.get(foldName(name)) ?? [])];
  using = (target: number): number[] => [...(this.#targets.get(target) ?? [])];
}

function put<Key>(sets: Map<Key, Set<number>>, key: Key, id: number): void {
  const ids = sets.get(key) ?? new Set();
  sets.set(key, ids.add(id));
}

function take<Key>(sets: Map<Key, Set<number>>, key: Key, id: number): void {
  const ids = sets.get(key);
  ids?.delete(id);
  if (ids?.size === 0) sets.delete(key);
}

export function openJobs<Name extends JobKind>(db: Database, name: Name): JobRows<JobSpecs[Name]> {
  const table = openTable(db, jobKind(name));
  let index: JobIndex<Name> | undefined;
  /** Built of all rows at the first use. */
  const openIndex = async (): Promise<JobIndex<Name>> => {
    if (index) return index;
    const all = await table.list();
    if (index) return index;
    index = new JobIndex(name);
    for (const row of all) index.add(row);
    return index;
  };
  const all = async (ids: readonly number[]) => (await Promise.all(ids.map((id) => table.get(id)))).flatMap((row) => row ?? []);
  return {
    list: (range) => table.list(range),
    listNamed: async (wanted) => all((await openIndex()).named(wanted)),
    listUsing: async (target) => all((await openIndex()).using(target)),
    get: (id) => table.get(id),
    async create(spec, state) {
      const row = await table.create((id) => ({ id, spec, state }));
      index?.add(row);
      return row;
    },
    async put(row, when) {
      const before = await table.get(row.id);
      await table.put(row.id, row, when);
      if (before) index?.remove(before);
      index?.add(row);
    },
    async delete(id) {
      const before = await table.get(id);
      await table.delete(id);
      if (before) index?.remove(before);
    },
  };
}

const leaseKind: RowFormat<Lease> = {
  name: 'lease',
  version: 1,
  steps: {},
  read: (f) => ({
    runtime: textOf(f.runtime, 'runtime'),
    container: textOf(f.container, 'container'),
    until: numberOf(f.until, 'until'),
  }),
  write: ({ runtime, container, until }) => ({ runtime, container, until }),
};

export function openLeases(db: Database): LeaseRows {
  const table = openTable(db, leaseKind);
  // A plugin id contains no slash, so no two pairs share a key.
  const key = (runtime: string, container: string) => `${runtime}/${container}`;
  return {
    list: () => table.list(),
    put: (lease) => table.put(key(lease.runtime, lease.container), lease, 'reserve'),
    delete: (runtime, container) => table.delete(key(runtime, container)),
  };
}
