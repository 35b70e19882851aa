/** Versioned rows: {v, …}. Reading a row of an older version upgrades it step by step. */

import { type Fields, isFields, nextId } from '../primitives/guards.js';
import type { Change, Database, Urgency } from './copies/database.js';
import type { KeyRange, Row } from './copies/rows.js';

export interface RowFormat<T> {
  readonly name: string;
  readonly version: number;
  /** steps[n] makes version n + 1 from version n. */
  readonly steps: Readonly<Record<number, (old: Fields) => Fields>>;
  /** Checks a row that was read. @throws Error when it is no T */
  read(fields: Fields): T;
  write(value: T): Fields;
}

export interface Table<T> {
  list(range?: Omit<KeyRange, 'after'> & { readonly after?: number | string }): Promise<T[]>;
  get(key: number | string): Promise<T | undefined>;
  put(key: number | string, value: T, urgency?: Urgency): Promise<void>;
  /** Stores a value under the next id, which was never used before, in one write with the counter. */
  create(make: (id: number) => T): Promise<T>;
  delete(key: number | string): Promise<void>;
}

/** A stored row in its newest version. @throws Error for a row of a later version or a damaged one */
export function upgradeRow<T>(kind: RowFormat<T>, stored: unknown): T {
  if (!isFields(stored) || typeof stored.v !== 'number') throw new Error(`damaged ${kind.name} row`);
  const { v: first, ...rest } = stored;
  if (typeof first !== 'number' || first > kind.version) throw new Error(`${kind.name} row of a newer version; update the software`);
  let fields: Fields = rest;
  for (let v = first; v < kind.version; v++) {
    const step = kind.steps[v];
    if (step === undefined) throw new Error(`no step from version ${v} of a ${kind.name} row`);
    fields = step(fields);
  }
  return kind.read(fields);
}

/** Parses the value before it is written: later lists need not parse it, and an unreadable row is never stored. */
function storable<T>(kind: RowFormat<T>, value: T): { readonly stored: Fields; readonly text: string; readonly read: T } {
  const stored = { v: kind.version, ...kind.write(value) };
  const text = JSON.stringify(stored);
  return { stored, text, read: upgradeRow(kind, JSON.parse(text)) };
}

export function openTable<T>(db: Database, kind: RowFormat<T>): Table<T> {
  // Padded, so that the order of keys is the order of numbers.
  const keyOf = (key: number | string) => `${kind.name}/${typeof key === 'number' ? String(key).padStart(12, '0') : key}`;
  const counter = `counter/${kind.name}`;
  const values = new Map<string, { readonly row: Row; readonly value: T }>();
  /** Parses each row once. */
  const parseRow = (row: Row): T => {
    const before = values.get(row.key);
    if (before?.row === row) return before.value;
    const value = upgradeRow(kind, JSON.parse(row.text));
    values.set(row.key, { row, value });
    return value;
  };
  const write = async (key: string, value: T, { more = [], urgency }: { more?: readonly Change[]; urgency?: Urgency } = {}) => {
    const { stored, text, read } = storable(kind, value);
    await db.write([...more, { type: 'put', key, value: stored }], urgency);
    const row = db.get(key);
    if (row?.text === text) values.set(key, { row, value: read });
  };
  return {
    list: async ({ after, ...range } = {}) =>
      db.list(kind.name, { ...range, ...(after !== undefined && { after: keyOf(after) }) }).map(parseRow),
    async get(key) {
      const row = db.get(keyOf(key));
      return row === undefined ? undefined : parseRow(row);
    },
    put: (key, value, urgency) => write(keyOf(key), value, { ...(urgency && { urgency }) }),
    create: (make) =>
      db.serial(async () => {
        const id = nextId(db.get(counter)?.text) ?? 1;
        const value = make(id);
        await write(keyOf(id), value, { more: [{ type: 'put', key: counter, value: { v: 1, next: id + 1 } }] });
        return value;
      }),
    async delete(key) {
      await db.write([{ type: 'del', key: keyOf(key) }], 'reserve');
      values.delete(keyOf(key));
    },
  };
}
