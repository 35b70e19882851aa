/** Which rows are the acknowledged ones, given the copies as they were found. Nothing is written here. */
import type { LevelCopy } from './db.js';
import type { Copy, JournalCopy, State } from './reading.js';
import { type Row, Rows } from './rows.js';

/** What a copy is worth, for a person. */
export interface CopyReport {
  readonly name: string;
  readonly rows: number;
  /** Its last write, as it says itself. */
  readonly seq: number | undefined;
  /** Empty: it is whole. */
  readonly problems: readonly string[];
}

/** What is there, and what each way out would lose. */
export interface StateReport {
  readonly reason: string;
  readonly copies: readonly CopyReport[];
  /** The newest state that a digest proves. */
  readonly proven?: State;
  /** All that can be read anywhere, the newest of each row. */
  readonly readable: Rows;
  /** The number of the last write that anything tells of. */
  readonly newest: number;
}

export interface FoundCopies {
  /** undefined when it is not known. */
  readonly id: string | undefined;
  readonly level: LevelCopy | undefined;
  /** Newest file first. */
  readonly journals: readonly JournalCopy[];
  /** Copies that cannot be read at all, and files that are missing. */
  readonly absent: readonly CopyReport[];
}

export type Verdict = { readonly state: State; readonly report?: undefined } | { readonly state?: undefined; readonly report: StateReport };

const isOf = (id: string, { stamp }: Copy): boolean => stamp?.id === id;

/** The newest of each row. Whether a row that only one has was deleted in the other, a digest must tell. */
function mergeCopies(copies: readonly Copy[]): Rows {
  const rows = new Rows();
  for (const copy of copies) for (const row of copy.rows) if ((rows.get(row.key)?.seq ?? -1) < row.seq) rows.put(row);
  return rows;
}

/** What the database lacks is in the journal's last lines. */
function* statesAfter(id: string, level: LevelCopy | undefined, journals: readonly JournalCopy[]): Generator<State> {
  if (!level?.whole || !level.stamp || !isOf(id, level)) return;
  for (const { later } of journals) {
    const rows = level.rows.copy();
    let stamp = level.stamp;
    for (const write of later) {
      if (write.stamp.seq !== stamp.seq + 1) break;
      rows.apply(write.changed);
      stamp = { ...write.stamp, id };
    }
    if (rows.digest === stamp.digest) yield { stamp, rows };
  }
}

/** States that a digest proves, in any order. */
function* provenStates(id: string, { level, journals }: FoundCopies): Generator<State> {
  for (const { proven } of journals) if (proven?.stamp.id === id) yield proven;
  if (level?.whole && level.stamp && isOf(id, level)) yield { stamp: level.stamp, rows: level.rows };
  yield* statesAfter(id, level, journals);
  const own = [...(level ? [level] : []), ...journals].filter((copy) => isOf(id, copy));
  const rows = mergeCopies(own);
  const stamp = own.flatMap((copy) => copy.stamp ?? []).find(({ digest }) => digest === rows.digest);
  if (stamp) yield { stamp, rows };
}

function reportCopy({ name, rows, stamp, whole, problems }: Copy): CopyReport {
  return { name, rows: rows.size, seq: stamp?.seq, problems: whole ? [] : problems };
}

/** The id that all copies agree on. */
function commonId({ level, journals }: FoundCopies): string | undefined {
  const ids = new Set([...(level ? [level] : []), ...journals].flatMap(({ stamp }) => (stamp?.id ? [stamp.id] : [])));
  return ids.size === 1 ? [...ids][0] : undefined;
}

/** The rows as they were acknowledged last: proven by a digest, and no copy tells of a later write. */
export function judge(found: FoundCopies): Verdict {
  const id = found.id ?? commonId(found);
  const copies: readonly Copy[] = [...(found.level ? [found.level] : []), ...found.journals];
  const own = copies.filter(({ stamp }) => id !== undefined && (stamp === undefined || stamp.id === '' || stamp.id === id));
  const newest = Math.max(-1, ...own.map(({ stamp }) => stamp?.seq ?? -1));
  const states = id === undefined ? [] : [...provenStates(id, found)].sort((a, b) => b.stamp.seq - a.stamp.seq);
  const [proven] = states;
  if (proven && proven.stamp.seq >= newest) return { state: proven };
  // What is left to choose from when nothing is the appliance's own.
  const other = own.length === 0 ? commonId({ ...found, id: undefined }) : undefined;
  const best = other === undefined ? proven : [...provenStates(other, found)].sort((a, b) => b.stamp.seq - a.stamp.seq)[0];
  const foreign = copies
    .filter((copy) => !own.includes(copy))
    .map((copy) => ({ ...reportCopy(copy), problems: [`it is another appliance's`] }));
  const report: StateReport = {
    reason: reasonOf(found, { id, foreign: foreign.length, newest, ...(proven && { proven }) }),
    copies: [...own.map(reportCopy), ...foreign, ...found.absent],
    ...(best && { proven: best }),
    readable: mergeCopies(own.length > 0 ? own : copies),
    newest: Math.max(newest, best?.stamp.seq ?? 0),
  };
  return { report };
}

interface Reasons {
  readonly id: string | undefined;
  readonly foreign: number;
  readonly newest: number;
  readonly proven?: State;
}

function reasonOf({ level, journals }: FoundCopies, { id, foreign, newest, proven }: Reasons): string {
  if (id === undefined && (level || journals.length > 0))
    return 'its copies are of different appliances, and format.json does not say which is its own';
  if (foreign > 0 && newest < 0) return "the database and the journal are another appliance's";
  if (!level && journals.length === 0) return 'the database and its journal are missing or cannot be read';
  if (proven)
    return `the last write that is told of is ${newest}, and no copy holds more than the first ${proven.stamp.seq} without damage`;
  return 'the database and its journal are both damaged';
}

/** Rows that `rows` has otherwise than `newest`, or not at all, a line each. */
export function losses(rows: Rows, newest: Rows): string[] {
  const lines: string[] = [];
  for (const row of newest) {
    const kept = rows.get(row.key);
    if (kept?.check !== row.check) lines.push(`${nameOf(row)}: ${kept ? `as it was at write ${kept.seq}, not ${row.seq}` : 'lost'}`);
  }
  for (const row of rows) if (!newest.get(row.key)) lines.push(`${nameOf(row)}: deleted later, and there again`);
  return lines.sort();
}

/** A row for a person: `backup 7 (web)`. */
function nameOf({ key, text }: Row): string {
  const [kind = '', ...rest] = key.split('/');
  const name = /"(?:job_name|name)":("(?:[^"\\]|\\.)*")/.exec(text)?.[1];
  const id = rest.join('/').replace(/^0+(?=\d)/, '');
  return `${kind} ${kind === 'session' ? `${id.slice(0, 8)}…` : id}${name ? ` (${JSON.parse(name)})` : ''}`;
}
