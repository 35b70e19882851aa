/** Jobs and leases as they are kept. */
import type { JobKind, JobRecord, JobRecords, Lease, LeaseRecords } from '../jobs/job.js';
import { parsed, type Shape } from '../schemas.js';
import type { Database } from './database.js';
import { type Kind, records } from './records.js';

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

export function jobRecords<Name extends JobKind>(db: Database, name: Name): JobRecords<Shape<Name>> {
  const kept = records(db, jobKind(name));
  return {
    list: () => kept.list(),
    get: (id) => kept.get(id),
    create: (spec, state) => kept.create((id) => ({ id, spec, state })),
    put: (record, when) => kept.put(record.id, record, when),
    delete: (id) => kept.delete(id),
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
