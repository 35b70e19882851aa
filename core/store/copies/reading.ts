/** Reads a journal file, and decides how far it can be trusted. */
import { stat } from 'node:fs/promises';
import { isFields } from '../../primitives/guards.js';
import { linesOf } from './journal.js';
import { type Changed, makeRow, type Row, Rows, type Stamp, unsealLine } from './rows.js';

/** The rows after some write, proven by their digest. */
export interface State {
  readonly stamp: Stamp;
  readonly rows: Rows;
}

/** A write, from an undamaged line. */
interface Write {
  readonly stamp: Stamp;
  readonly changed: Changed;
}

/** A copy of the rows as read. */
export interface Copy {
  /** The file or folder. */
  readonly name: string;
  /** The copy's own last stamp; undefined when it has none. */
  readonly stamp: Stamp | undefined;
  /** All readable rows. */
  readonly rows: Rows;
  /** Whether the rows are exactly those of the stamp. */
  readonly whole: boolean;
  /** Problems, in words. */
  readonly problems: readonly string[];
}

export interface JournalCopy extends Copy {
  readonly number: number;
  /** Length up to the end of the last undamaged line. */
  readonly bytes: number;
  /** Bytes after it: an interrupted write, or damage. */
  readonly torn: number;
  /** The newest state before the first damage. */
  readonly proven: State | undefined;
  /** Writes after the requested number. */
  readonly later: readonly Write[];
}

const isDigest = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{32}$/.test(value);

export function stampOf(value: unknown): Stamp | undefined {
  if (!isFields(value)) return undefined;
  const { id, seq, digest } = value;
  return typeof id === 'string' && typeof seq === 'number' && isDigest(digest) ? { id, seq, digest } : undefined;
}

function parseLine(line: string): Readonly<Record<string, unknown>> | undefined {
  const text = unsealLine(line);
  if (text === undefined) return undefined;
  const value: unknown = JSON.parse(text); // the check holds, so we wrote it and it parses
  return isFields(value) ? value : undefined;
}

function rowOf(key: unknown, seq: unknown, value: unknown): Row | undefined {
  return typeof key === 'string' && typeof seq === 'number' && value !== undefined ? makeRow(key, seq, JSON.stringify(value)) : undefined;
}

function writeOf(line: Readonly<Record<string, unknown>>, id: string): Write | undefined {
  const { seq, changes } = line;
  const stamp = stampOf({ ...line, id });
  if (stamp === undefined || !Array.isArray(changes)) return undefined;
  const changed = new Map<string, Row | undefined>();
  for (const one of changes) {
    if (!isFields(one) || typeof one.key !== 'string') return undefined;
    changed.set(one.key, one.deleted === true ? undefined : rowOf(one.key, seq, one.value));
  }
  return { stamp, changed };
}

/** Reads a file line by line. */
class Reader {
  readonly rows = new Rows();
  stamp: Stamp | undefined;
  proven: State | undefined;
  readonly problems: string[] = [];
  readonly later: Write[] = [];
  /** Rows of the snapshot still to come. */
  #expected = 0;
  #line = 0;
  /** Damaged lines so far. A power cut leaves them at the end only, so a whole line after them means damage. */
  #bad = 0;

  constructor(private readonly after: number) {}

  get isWhole(): boolean {
    return this.problems.length === 0 && this.stamp !== undefined && this.#expected === 0 && this.rows.digest === this.stamp.digest;
  }

  /** @returns whether the line is whole */
  take(text: string): boolean {
    this.#line++;
    const line = parseLine(text);
    if (line === undefined) this.#bad++;
    if (line === undefined) return false;
    if (this.#bad > 0 && this.problems.length === 0) this.damage(`${this.#bad} damaged lines before line ${this.#line}`);
    if (this.#line === 1) return this.#header(line);
    const row = 'value' in line ? rowOf(line.key, line.seq, line.value) : undefined;
    if (row !== undefined) {
      this.#expected--;
      this.rows.put(row);
      return true;
    }
    const write = writeOf(line, this.stamp?.id ?? '');
    if (write !== undefined) this.#write(write);
    return write !== undefined;
  }

  #header(line: Readonly<Record<string, unknown>>): boolean {
    this.stamp = stampOf(line);
    this.#expected = typeof line.rows === 'number' ? line.rows : 0;
    return this.stamp !== undefined;
  }

  #write(write: Write): void {
    if (this.problems.length === 0 && write.stamp.seq !== (this.stamp?.seq ?? 0) + 1)
      this.damage(`a write before line ${this.#line} is missing`);
    this.rows.apply(write.changed);
    this.stamp = write.stamp;
    if (write.stamp.seq > this.after) this.later.push(write);
  }

  /** Notes a problem. Keeps the rows before it if a digest proves them: they may be the newest proven state. */
  damage(problem: string): void {
    if (this.isWhole && this.stamp) this.proven = { stamp: this.stamp, rows: this.rows.copy() };
    this.problems.push(problem);
  }
}

/** Reads a journal file and reports its damage in the result. `later` gets the writes after number `after`.
 *  @throws Error when the file cannot be read at all */
export async function readJournal(file: string, number: number, after: number): Promise<JournalCopy> {
  const { size } = await stat(file);
  const reader = new Reader(after);
  let [bytes, at] = [0, 0];
  for await (const line of linesOf(file)) {
    at += line.bytes;
    if (at <= size && reader.take(line.text)) bytes = at;
  }
  const whole = reader.isWhole;
  if (!whole && reader.problems.length === 0) reader.damage(reader.stamp === undefined ? 'its first line is damaged' : 'rows are missing');
  const { stamp, rows, problems, later } = reader;
  const proven = whole && stamp ? { stamp, rows } : reader.proven;
  return { name: file, number, stamp, rows, whole, problems, bytes, torn: size - bytes, proven, later };
}
