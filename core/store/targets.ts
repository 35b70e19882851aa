/** Remote targets. Password and plugin options are sealed; the rest is plain. */
import { type FoundTarget, foundTarget } from '../jobs/job.js';
import { parsed, type Shape } from '../schemas.js';
import type { Vault } from '../secrets.js';
import type { Database } from './db.js';
import { type Kind, records } from './records.js';

export type TargetSpec = Shape<'target'>;
export interface TargetRecord {
  readonly id: number;
  /** With its secrets: never into an answer, a log or a worker message as it is. */
  readonly spec: TargetSpec;
  /** What the first contact showed, as long as the address is the same. */
  readonly found?: FoundTarget;
}

export interface TargetRecords {
  list(): Promise<TargetRecord[]>;
  get(id: number): Promise<TargetRecord | undefined>;
  create(spec: TargetSpec): Promise<TargetRecord>;
  /** Changes it as it is then: nothing written between is lost. @returns what is kept, undefined when it is gone */
  update(id: number, change: (record: TargetRecord) => TargetRecord): Promise<TargetRecord | undefined>;
  delete(id: number): Promise<void>;
}

function targetKind(vault: Vault): Kind<TargetRecord> {
  return {
    name: 'target',
    version: 1,
    steps: {},
    read(f) {
      const { id, sealed, found, ...plain } = f;
      if (typeof id !== 'number' || typeof sealed !== 'string') throw new Error('damaged target record');
      const secrets: unknown = JSON.parse(vault.unseal(sealed, `target/${id}`));
      const known = foundTarget(found);
      return { id, spec: parsed('target', { ...plain, ...(typeof secrets === 'object' ? secrets : {}) }), ...(known && { found: known }) };
    },
    write({ id, spec, found }) {
      const { password, options, ...plain } = spec;
      return { id, ...plain, ...(found && { found }), sealed: vault.seal(JSON.stringify({ password, options }), `target/${id}`) };
    },
  };
}

export function targetRecords(db: Database, vault: Vault): TargetRecords {
  const kept = records(db, targetKind(vault));
  return {
    list: () => kept.list(),
    get: (id) => kept.get(id),
    create: (spec) => kept.create((id) => ({ id, spec })),
    update: (id, change) =>
      db.serial(async () => {
        const record = await kept.get(id);
        if (record === undefined) return undefined;
        const changed = change(record);
        if (changed !== record) await kept.put(id, changed);
        return changed;
      }),
    delete: (id) => kept.delete(id),
  };
}
