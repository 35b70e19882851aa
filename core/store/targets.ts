/** Remote targets. Password and plugin options are sealed; the rest is plain. */
import type { FoundTarget } from '../jobs/job.js';
import { parse, type Shape } from '../schemas.js';
import type { Vault } from '../secrets.js';
import type { Database } from './copies/database.js';
import { openTable, type RowFormat } from './row-format.js';

export type TargetSpec = Shape<'target'>;
export interface TargetRow {
  readonly id: number;
  /** With its secrets: never into an answer, a log or a worker message as it is. */
  readonly spec: TargetSpec;
  /** What the first contact showed, as long as the address is the same. */
  readonly found?: FoundTarget;
  /** What the appliance's key does not open any more: password and options. They are empty in `spec`. */
  readonly lost?: string;
}

export interface TargetRows {
  list(): Promise<TargetRow[]>;
  get(id: number): Promise<TargetRow | undefined>;
  create(spec: TargetSpec): Promise<TargetRow>;
  /** Changes it as it is then: nothing written between is lost. @returns what is kept, undefined when it is gone */
  update(id: number, change: (row: TargetRow) => TargetRow): Promise<TargetRow | undefined>;
  delete(id: number): Promise<void>;
}

/** undefined when they were sealed under another key. */
function unsealSecrets(vault: Vault, sealed: string, id: number): object | undefined {
  let text: string;
  try {
    text = vault.unseal(sealed, `target/${id}`);
  } catch {
    return undefined; // the row is as it was written: its check says so
  }
  const secrets: unknown = JSON.parse(text);
  return typeof secrets === 'object' && secrets !== null ? secrets : {};
}

function targetKind(vault: Vault): RowFormat<TargetRow> {
  return {
    name: 'target',
    version: 1,
    steps: {},
    read(f) {
      const { id, sealed, found, ...plain } = f;
      if (typeof id !== 'number' || typeof sealed !== 'string') throw new Error('damaged target row');
      const secrets = unsealSecrets(vault, sealed, id);
      const known = found === undefined ? undefined : parse('worker#/$defs/found', found);
      const spec = parse('target', { ...plain, ...(secrets ?? { password: '' }) });
      return { id, spec, ...(known && { found: known }), ...(secrets === undefined && { lost: sealed }) };
    },
    write({ id, spec, found, lost }) {
      const { password, options, ...plain } = spec;
      const sealed = lost ?? vault.seal(JSON.stringify({ password, options }), `target/${id}`);
      return { id, ...plain, ...(found && { found }), sealed };
    },
  };
}

export function openTargets(db: Database, vault: Vault): TargetRows {
  const kept = openTable(db, targetKind(vault));
  return {
    list: () => kept.list(),
    get: (id) => kept.get(id),
    create: (spec) => kept.create((id) => ({ id, spec })),
    update: (id, change) =>
      db.serial(async () => {
        const row = await kept.get(id);
        if (row === undefined) return undefined;
        const changed = change(row);
        if (changed !== row) await kept.put(id, changed);
        return changed;
      }),
    delete: (id) => kept.delete(id),
  };
}
