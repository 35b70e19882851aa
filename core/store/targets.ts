/** Remote targets. Password and plugin options are sealed; the rest is plain. */
import { parsed, type Shape } from '../schemas.js';
import type { Database } from './db.js';
import { type Kind, records } from './records.js';
import type { Vault } from './secrets.js';

export type TargetSpec = Shape<'target'>;
export interface TargetRecord {
  readonly id: number;
  /** With its secrets: never into an answer, a log or a worker message as it is. */
  readonly spec: TargetSpec;
}

export interface TargetRecords {
  list(): Promise<TargetRecord[]>;
  get(id: number): Promise<TargetRecord | undefined>;
  create(spec: TargetSpec): Promise<TargetRecord>;
  put(record: TargetRecord): Promise<void>;
  delete(id: number): Promise<void>;
}

function targetKind(vault: Vault): Kind<TargetRecord> {
  return {
    name: 'target',
    version: 1,
    steps: {},
    read(f) {
      const { id, sealed, ...plain } = f;
      if (typeof id !== 'number' || typeof sealed !== 'string') throw new Error('damaged target record');
      const secrets: unknown = JSON.parse(vault.unseal(sealed, `target/${id}`));
      return { id, spec: parsed('target', { ...plain, ...(typeof secrets === 'object' ? secrets : {}) }) };
    },
    write({ id, spec }) {
      const { password, options, ...plain } = spec;
      return { id, ...plain, sealed: vault.seal(JSON.stringify({ password, options }), `target/${id}`) };
    },
  };
}

export function targetRecords(db: Database, vault: Vault): TargetRecords {
  const kept = records(db, targetKind(vault));
  return {
    list: () => kept.list(),
    get: (id) => kept.get(id),
    create: (spec) => kept.create((id) => ({ id, spec })),
    put: (record) => kept.put(record.id, record),
    delete: (id) => kept.delete(id),
  };
}
