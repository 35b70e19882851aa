/** Jobs and leases as they are kept. */
import { foldedName, type JobKind, type JobRecord, type JobRecords, type Lease, type LeaseRecords } from '../jobs/job.js';
import { parsed, type Shape } from '../schemas.js';
import type { Database } from './copies/database.js';
import { type Kind, records } from './row-format.js';

function numberOf(value: unknown, what: string): number {
  if (typeof value !== 'number') throw new Error(`damaged record: ${what} is not a number`);
  return value;
}
function textOf(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new Error(`damaged record: ${what} is not a text`);
  return value;
}

/** The schema of a kind's spec is the one its requests pass. */
function jobKind<Name extends JobKind>(name: Name): Kind<JobRecord<Shape<Name>>> {
  return {
    name,
    version: 1,
    steps: {},
    read: (f) => ({
      id: numberOf(f.id, 'id'),
      spec: parsed(name, f.spec),
      state: parsed('backup#/$defs/state', f.state),
    }),
    write: ({ id, spec, state }) => ({ id, spec, state }),
  };
}

const remoteOf = (spec: Shape<JobKind>): number | undefined => ('dest' in spec ? spec.dest : spec.src).profile;

/** Ids by what a job says, kept beside the records. */
class JobIndex<Name extends JobKind> {
  readonly #names = new Map<string, Set<number>>();
  readonly #targets = new Map<number, Set<number>>();

  add({ id, spec }: JobRecord<Shape<Name>>): void {
    const target = remoteOf(spec);
    put(this.#names, foldedName(spec.job_name), id);
    if (target !== undefined) put(this.#targets, target, id);
  }
  remove({ id, spec }: JobRecord<Shape<Name>>): void {
    const target = remoteOf(spec);
    take(this.#names, foldedName(spec.job_name), id);
    if (target !== undefined) take(this.#targets, target, id);
  }
  named = (name: string): number[] => [...(this.#names.get(foldedName(name)) ?? [])];
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

export function jobRecords<Name extends JobKind>(db: Database, name: Name): JobRecords<Shape<Name>> {
  const kept = records(db, jobKind(name));
  let index: JobIndex<Name> | undefined;
  /** Made at the first look, of all records. */
  const indexed = async (): Promise<JobIndex<Name>> => {
    if (index) return index;
    const all = await kept.list();
    if (index) return index;
    index = new JobIndex();
    for (const record of all) index.add(record);
    return index;
  };
  const all = async (ids: readonly number[]) => (await Promise.all(ids.map((id) => kept.get(id)))).flatMap((record) => record ?? []);
  return {
    list: (range) => kept.list(range),
    named: async (wanted) => all((await indexed()).named(wanted)),
    using: async (target) => all((await indexed()).using(target)),
    get: (id) => kept.get(id),
    async create(spec, state) {
      const record = await kept.create((id) => ({ id, spec, state }));
      index?.add(record);
      return record;
    },
    async put(record, when) {
      const before = await kept.get(record.id);
      await kept.put(record.id, record, when);
      if (before) index?.remove(before);
      index?.add(record);
    },
    async delete(id) {
      const before = await kept.get(id);
      await kept.delete(id);
      if (before) index?.remove(before);
    },
  };
}

const leaseKind: Kind<Lease> = {
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

export function leaseRecords(db: Database): LeaseRecords {
  const kept = records(db, leaseKind);
  // A plugin id holds no slash, so that no two pairs share a key.
  const key = (runtime: string, container: string) => `${runtime}/${container}`;
  return {
    list: () => kept.list(),
    put: (lease) => kept.put(key(lease.runtime, lease.container), lease, 'reserve'),
    delete: (runtime, container) => kept.delete(key(runtime, container)),
  };
}
