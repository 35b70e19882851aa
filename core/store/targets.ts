/** Remote targets. Password and plugin options are encrypted; the rest is plain. */
import type { FoundTarget } from '../jobs/job.js';
import { parse, type Shape } from '../schemas.js';
import type { Vault } from '../secrets.js';
import type { Database } from './copies/database.js';
import { openTable, type RowFormat } from './row-format.js';

export type TargetSpec = Shape<'target'>;
export interface TargetRow {
  readonly id: number;
  /** With its secrets: never send it as it is in an answer, a log line or a message to a worker. */
  readonly spec: TargetSpec;
  /** What the first contact found out; dropped when the address changes. */
  readonly found?: FoundTarget;
  /** Encrypted password and options that the appliance's key no longer opens. They are empty in `spec`. */
  readonly lost?: string;
}

export interface TargetRows {
  list(): Promise<TargetRow[]>;
  get(id: number): Promise<TargetRow | undefined>;
  create(spec: TargetSpec): Promise<TargetRow>;
  /** Changes the current row under the store's mutex, so no write between is lost. @returns the stored row, undefined if it is
   *  gone */
  update(id: number, change: (row: TargetRow) => TargetRow): Promise<TargetRow | undefined>;
  delete(id: number): Promise<void>;
}

/** undefined when another key encrypted them. */
function unsealSecrets(vault: Vault, sealed: string, id: number): object | undefined {
  let text: string;
  try {
    text = vault.unseal(sealed, `target/${id}`);
  } catch {
    return undefined; // wrong key: the row's own check has ruled out damage
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
  const table = openTable(db, targetKind(vault));
  return {
    list: () => table.list(),
    get: (id) => table.get(id),
    create: (spec) => table.create((id) => ({ id, spec })),
    update: (id, change) =>
      db.serial(async () => {
        const row = await table.get(id);
        if (row === undefined) return undefined;
        const changed = change(row);
        if (changed !== row) await table.put(id, changed);
        return changed;
      }),
    delete: (id) => table.delete(id),
  };
}
