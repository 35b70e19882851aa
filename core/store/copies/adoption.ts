/** Adopts a database that an earlier version wrote last: after an update, or after the firmware fell back to that version for a
 *  while. That version writes neither checks nor journal, so its rows are taken as they are. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isFields, nextId } from '../../primitives/guards.js';
import type { LevelCopy } from './db.js';
import { newFormat } from './format.js';
import type { JournalCopy, State } from './reading.js';
import { makeRow, Rows } from './rows.js';

/** Whether an earlier version wrote clock.json last: it leaves out the key `journal` (core/jobs/schedule/clock.ts). */
export async function ranEarlier(folder: string): Promise<boolean> {
  const text = await readFile(join(folder, 'clock.json'), 'utf8').catch(() => ''); // a missing file proves nothing
  try {
    const value: unknown = JSON.parse(text);
    return isFields(value) && value.version === 1 && typeof value.latest === 'number' && value.journal === undefined;
  } catch {
    return false;
  }
}

interface Ground {
  readonly level: LevelCopy | undefined;
  readonly journals: readonly JournalCopy[];
  /** The id in format.json. */
  readonly id: string | undefined;
  readonly ranEarlier: boolean;
}

/** The rows as the earlier version left them; undefined if this version wrote last, or if a row is no JSON. */
export function adoptState({ level, journals, id, ranEarlier: ran }: Ground): State | undefined {
  if (level === undefined || level.whole || level.unreadable) return undefined;
  const isFirst = id === undefined && journals.length === 0 && level.earlier;
  if (!isFirst && !ran) return undefined;
  const seq = Math.max(0, ...[level, ...journals].map(({ stamp }) => stamp?.seq ?? 0)) + 1;
  const rows = new Rows();
  for (const row of level.rows) rows.put(row);
  for (const [key, text] of level.unmarked) rows.put(makeRow(key, seq, text));
  for (const counter of journals.flatMap((journal) => journal.rows.list('counter')))
    if ((nextId(counter.text) ?? 0) > (nextId(rows.get(counter.key)?.text) ?? 0)) rows.put(makeRow(counter.key, seq, counter.text)); // no id twice
  return { rows, stamp: { id: id ?? newFormat().id, seq, digest: rows.digest } };
}
