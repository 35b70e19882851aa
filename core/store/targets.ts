/** Remote targets. Password and plugin options are sealed; the rest is plain. */
import { type FoundTarget, foundTarget } from '../jobs/job.js';
import { parsed, type Shape } from '../schemas.js';
import type { Vault } from '../secrets.js';
import type { Database } from './copies/database.js';
import { type Kind, records } from './row-format.js';

export type TargetSpec = Shape<'target'>;
export interface TargetRecord {
  readonly id: number;
  /** With its secrets: never into an answer, a log or a worker message as it is. */
  readonly spec: TargetSpec;
  /** What the first contact showed, as long as the address is the same. */
  readonly found?: FoundTarget;
  /** What the appliance's key does not open any more: password and options. They are empty in `spec`. */
  readonly lost?: string;
}

export interface TargetRecords {
  list(): Promise<TargetRecord[]>;
  get(id: number): Promise<TargetRecord | undefined>;
  create(spec: TargetSpec): Promise<TargetRecord>;
  /** Changes it as it is then: nothing written between is lost. @returns what is kept, undefined when it is gone */
  update(id: number, change: (record: TargetRecord) => TargetRecord): Promise<TargetRecord | undefined>;
  delete(id: number): Promise<void>;
}

/** undefined when they were sealed under another key. */
function openedSecrets(vault: Vault, sealed: string, id: number): object | undefined {
  let text: string;
  try {
    text = vault.unseal(sealed, `target/${id}`);
  } catch {
    return undefined; // the row is as it was written: its check says so
  }
  const secrets: unknown = JSON.parse(text);
  return typeof secrets === 'object' && secrets !== null ? secrets : {};
}

function targetKind(vault: Vault): Kind<TargetRecord> {
  return {
    name: 'target',
    version: 1,
    steps: {},
    read(f) {
      const { id, sealed, found, ...plain } = f;
      if (typeof id !== 'number' || typeof sealed !== 'string') throw new Error('damaged target record');
      const secrets = openedSecrets(vault, sealed, id);
      const known = foundTarget(found);
      const spec = parsed('target', { ...plain, ...(secrets ?? { password: '' }) });
      return { id, spec, ...(known && { found: known }), ...(secrets === undefined && { lost: sealed }) };
    },
    write({ id, spec, found, lost }) {
      const { password, options, ...plain } = spec;
      const sealed = lost ?? vault.seal(JSON.stringify({ password, options }), `target/${id}`);
      return { id, ...plain, ...(found && { found }), sealed };
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
