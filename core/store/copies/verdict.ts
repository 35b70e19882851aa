/** Decides which rows are the acknowledged ones, given the copies as read. Writes nothing. */
import type { LevelCopy } from './db.js';
import type { Copy, JournalCopy, State } from './reading.js';
import { type Row, Rows } from './rows.js';

/** The worth of a copy, for a person. */
export interface CopyReport {
  readonly name: string;
  readonly rows: number;
  /** Number of its last write, as it says itself. */
  readonly seq: number | undefined;
  /** Empty: the copy is whole. */
  readonly problems: readonly string[];
}

/** What is left of a damaged state, and what each command would lose. */
export interface StateReport {
  readonly reason: string;
  readonly copies: readonly CopyReport[];
  /** The newest state that a digest proves. */
  readonly proven?: State;
  /** Everything readable in any copy, the newest of each row. */
  readonly readable: Rows;
  /** The highest write number found anywhere. */
  readonly newest: number;
}

export interface FoundCopies {
  /** The appliance's id; undefined when unknown. */
  readonly id: string | undefined;
  readonly level: LevelCopy | undefined;
  /** Newest file first. */
  readonly journals: readonly JournalCopy[];
  /** Missing and wholly unreadable copies. */
  readonly absent: readonly CopyReport[];
}

export type Verdict = { readonly state: State; readonly report?: undefined } | { readonly state?: undefined; readonly report: StateReport };

const isOf = (id: string, { stamp }: Copy): boolean => stamp?.id === id;

/** The newest of each row. Only a digest can tell whether a row that one copy lacks was deleted. */
function mergeCopies(copies: readonly Copy[]): Rows {
  const rows = new Rows();
  for (const copy of copies) for (const row of copy.rows) if ((rows.get(row.key)?.seq ?? -1) < row.seq) rows.put(row);
  return rows;
}

/** States of the database plus the writes that it lacks, from the journal's last lines. */
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

/** States that a digest proves, in no order. */
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

/** Finds the last acknowledged rows: a digest proves them, and no copy has a later write. */
export function judge(found: FoundCopies): Verdict {
  const id = found.id ?? commonId(found);
  const copies: readonly Copy[] = [...(found.level ? [found.level] : []), ...found.journals];
  const own = copies.filter(({ stamp }) => id !== undefined && (stamp === undefined || stamp.id === '' || stamp.id === id));
  const newest = Math.max(-1, ...own.map(({ stamp }) => stamp?.seq ?? -1));
  const states = id === undefined ? [] : [...provenStates(id, found)].sort((a, b) => b.stamp.seq - a.stamp.seq);
  const [proven] = states;
  if (proven && proven.stamp.seq >= newest) return { state: proven };
  // A choice for the person when no copy is the appliance's own.
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
    return 'its copies come from different appliances, and format.json does not say which one is right';
  if (foreign > 0 && newest < 0) return "the database and the journal are another appliance's";
  if (!level && journals.length === 0) return 'the database and its journal are missing or cannot be read';
  if (proven) return `the last known write is ${newest}, and no copy has more than the first ${proven.stamp.seq} undamaged`;
  return 'the database and its journal are both damaged';
}

/** Rows that are missing or different in `rows` compared with `newest`, a line each. */
export function losses(rows: Rows, newest: Rows): string[] {
  const lines: string[] = [];
  for (const row of newest) {
    const kept = rows.get(row.key);
    if (kept?.check !== row.check) lines.push(`${nameOf(row)}: ${kept ? `as it was at write ${kept.seq}, not ${row.seq}` : 'lost'}`);
  }
  for (const row of rows) if (!newest.get(row.key)) lines.push(`${nameOf(row)}: deleted later, and back again`);
  return lines.sort();
}

/** A row's name for a person: `backup 7 (web)`. */
function nameOf({ key, text }: Row): string {
  const [kind = '', ...rest] = key.split('/');
  const name = /"(?:job_name|name)":("(?:[^"\\]|\\.)*")/.exec(text)?.[1];
  const id = rest.join('/').replace(/^0+(?=\d)/, '');
  return `${kind} ${kind === 'session' ? `${id.slice(0, 8)}…` : id}${name ? ` (${JSON.parse(name)})` : ''}`;
}
