/** All rows in memory, in key order. A digest over them lets a copy prove that it has exactly these and no older ones. */
import { hash } from 'node:crypto';

export interface Row {
  readonly key: string;
  /** Number of the write that stored it. */
  readonly seq: number;
  /** JSON. */
  readonly text: string;
  /** Check over the three above; 32 hex digits. */
  readonly check: string;
}

/** A range of a list in key order. */
export interface KeyRange {
  readonly after?: string;
  readonly offset?: number;
  readonly limit?: number;
}

/** A copy's stamp: the appliance's id, the last write's number, and the digest of the rows after it. */
export interface Stamp {
  readonly id: string;
  readonly seq: number;
  readonly digest: string;
}

/** Rows that a write stores; undefined: deleted. */
export type Changed = ReadonlyMap<string, Row | undefined>;

const checkDigits = 32;

/** The first half of SHA-256 in hex: detects accidents, not attacks. */
export function checkOf(text: string): string {
  return hash('sha256', text, 'hex').slice(0, checkDigits);
}

export function makeRow(key: string, seq: number, text: string): Row {
  return { key, seq, text, check: checkOf(`${key}\n${seq} ${text}`) };
}

/** A text with its check in front. */
export function sealLine(text: string): string {
  return `${checkOf(text)} ${text}`;
}

/** The text given to `sealLine`; undefined when any byte has changed. */
export function unsealLine(line: string): string | undefined {
  const text = line.slice(checkDigits + 1);
  return line[checkDigits] === ' ' && line.slice(0, checkDigits) === checkOf(text) ? text : undefined;
}

/** XOR of the rows' checks: independent of the order of changes. */
class Digest {
  readonly #words: Uint32Array;
  constructor(words: Uint32Array = new Uint32Array(4)) {
    this.#words = words;
  }
  /** Adds a row, or removes it. */
  flip(row: Row | undefined): void {
    if (row === undefined) return;
    for (let at = 0; at < 4; at++) this.#words[at] = (this.#words[at] ?? 0) ^ Number.parseInt(row.check.slice(at * 8, at * 8 + 8), 16);
  }
  copy(): Digest {
    return new Digest(this.#words.slice());
  }
  toString(): string {
    return [...this.#words].map((word) => word.toString(16).padStart(8, '0')).join('');
  }
}

/** The part of a key before its first slash: the rows' kind. */
const tableOf = (key: string): string => key.slice(0, key.indexOf('/') + 1);

/** The first index whose key is not smaller. */
function indexFor(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] ?? '') < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Rows implements Iterable<Row> {
  readonly #rows = new Map<string, Row>();
  readonly #tables = new Map<string, string[]>();
  #digest = new Digest();
  #bytes = 0;

  /** Characters of all rows. */
  get bytes(): number {
    return this.#bytes;
  }
  get size(): number {
    return this.#rows.size;
  }
  get digest(): string {
    return this.#digest.toString();
  }
  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }
  /** In key order within a kind. */
  [Symbol.iterator](): Iterator<Row> {
    return this.#rows.values();
  }

  /** Rows of a kind, whose keys begin with `<kind>/`, in key order. */
  list(kind: string, { after, offset = 0, limit = Number.POSITIVE_INFINITY }: KeyRange = {}): Row[] {
    const keys = this.#tables.get(`${kind}/`) ?? [];
    const from = (after === undefined ? 0 : indexFor(keys, `${after}\0`)) + offset;
    return keys.slice(from, from + limit).flatMap((key) => this.#rows.get(key) ?? []);
  }

  put(row: Row): void {
    const before = this.#rows.get(row.key);
    this.#digest.flip(before);
    this.#digest.flip(row);
    this.#bytes += row.text.length - (before?.text.length ?? 0);
    this.#rows.set(row.key, row);
    if (before !== undefined) return;
    const table = tableOf(row.key);
    const keys = this.#tables.get(table) ?? [];
    if (keys.length === 0) this.#tables.set(table, keys);
    keys.splice(indexFor(keys, row.key), 0, row.key);
  }

  delete(key: string): void {
    const before = this.#rows.get(key);
    if (before === undefined) return;
    this.#digest.flip(before);
    this.#bytes -= before.text.length;
    this.#rows.delete(key);
    const keys = this.#tables.get(tableOf(key));
    keys?.splice(indexFor(keys, key), 1);
  }

  apply(changed: Changed): void {
    for (const [key, row] of changed) {
      if (row === undefined) this.delete(key);
      else this.put(row);
    }
  }

  /** The digest after a change. */
  digestAfter(changed: Changed): string {
    const digest = this.#digest.copy();
    for (const [key, row] of changed) {
      digest.flip(this.#rows.get(key));
      digest.flip(row);
    }
    return digest.toString();
  }

  copy(): Rows {
    const other = new Rows();
    for (const row of this) other.put(row);
    return other;
  }

  /** The changes that make `other` equal to these rows. */
  differencesFrom(other: Rows): Changed {
    const changed = new Map<string, Row | undefined>();
    for (const row of this) if (other.get(row.key)?.check !== row.check) changed.set(row.key, row);
    for (const { key } of other) if (!this.#rows.has(key)) changed.set(key, undefined);
    return changed;
  }
}
