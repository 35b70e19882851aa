/** The only file that names Level: the first copy of every row, every write synced. Rows have the form that earlier versions read,
 *  and the check is under a key of its own, because firmware that falls back to the earlier version must find its rows. */
import { ClassicLevel } from 'classic-level';
import { surviveLevel } from './probe.js';
import { type Copy, stampOf } from './reading.js';
import { type Changed, makeRow, type Row, Rows, type Stamp, sealLine, unsealLine } from './rows.js';

/** Key of the stamp, which each batch writes. */
const stampKey = 'meta/stamp';
const rowsAtOnce = 1000;
/** The problem of a database that an earlier version made. */
const noStamp = 'it has no stamp';

const checkPrefix = 'check/';
const checkText = ({ check, seq }: Row): string => `${check} ${seq}`;

/** undefined when any byte of the row or its check has changed. */
function rowOf(key: string, text: string, checked: string | undefined): Row | undefined {
  const [, check, seq] = /^([0-9a-f]{32}) (\d+)$/.exec(checked ?? '') ?? [];
  if (seq === undefined) return undefined;
  const row = makeRow(key, Number(seq), text);
  return row.check === check ? row : undefined;
}

export interface LevelCopy extends Copy {
  /** JSON texts without a valid check: written by an earlier version, or damaged. */
  readonly unmarked: ReadonlyMap<string, string>;
  /** Nothing has a check: only an earlier version has written there. */
  readonly earlier: boolean;
  /** Some entry is no row at all. */
  readonly unreadable: boolean;
}

export class Level {
  private constructor(
    private readonly folder: string,
    private readonly level: ClassicLevel<string, string>,
  ) {}

  /** @param o `make`: makes a new database, where there must be none; `probed`: skips the probe, since LevelDB is known to survive
   *  it
   *  @throws Error of Level, with the reason in its causes, or when LevelDB would not survive opening it */
  static async open(folder: string, { make = false, probed = make }: { make?: boolean; probed?: boolean } = {}): Promise<Level> {
    if (!probed) await surviveLevel('read', folder);
    const level = new ClassicLevel<string, string>(folder, {
      keyEncoding: 'utf8',
      valueEncoding: 'utf8',
      createIfMissing: make,
      errorIfExists: make,
    });
    try {
      await level.open();
    } catch (error) {
      await level.close().catch(() => undefined); // the opening failed
      throw error;
    }
    return new Level(folder, level);
  }

  /** LevelDB's repair: makes an openable folder of its tables and logs, and drops what is damaged. Use it on a copy. Damage may
   *  end the process, so only probing.ts calls it. */
  static repair(folder: string): Promise<void> {
    return ClassicLevel.repair(folder);
  }

  /** Reads every row, also past damage that Level reports. */
  async read(): Promise<LevelCopy> {
    const checks = new Map<string, string>();
    const texts = new Map<string, string>();
    const problems: string[] = [];
    try {
      for await (const [key, value] of this.level.iterator({ highWaterMarkBytes: 1 << 20 })) {
        if (key.startsWith(checkPrefix)) checks.set(key.slice(checkPrefix.length), value);
        else texts.set(key, value);
      }
    } catch (error) {
      problems.push(`it cannot be read to its end: ${error instanceof Error ? error.message : error}`);
    }
    return judgeCopy(this.folder, { checks, texts, problems });
  }

  /** All or nothing, durable when it resolves. After a failure, reopen the database: Level refuses every later write. */
  async write(changed: Changed, stamp: Stamp): Promise<void> {
    const batch: Operation[] = [...changed].flatMap(([key, row]) => (row ? puts(row) : dels(key)));
    await this.level.batch([...batch, { type: 'put', key: stampKey, value: sealLine(JSON.stringify(stamp)) }], { sync: true });
  }

  /** Fills a new database. Writes the stamp last: without it the database does not count as whole. */
  async fill(rows: Rows, stamp: Stamp): Promise<void> {
    let piece: Operation[] = [];
    for (const row of rows) {
      piece.push(...puts(row));
      if (piece.length < rowsAtOnce) continue;
      await this.level.batch(piece);
      piece = [];
    }
    await this.level.batch(piece);
    await this.write(new Map(), stamp);
  }

  close(): Promise<void> {
    return this.level.close();
  }
}

type Operation = { readonly type: 'put'; readonly key: string; readonly value: string } | { readonly type: 'del'; readonly key: string };

const puts = (row: Row): Operation[] => [
  { type: 'put', key: row.key, value: row.text },
  { type: 'put', key: `${checkPrefix}${row.key}`, value: checkText(row) },
];
const dels = (key: string): Operation[] => [key, `${checkPrefix}${key}`].map((one) => ({ type: 'del', key: one }));

interface Read {
  readonly checks: ReadonlyMap<string, string>;
  readonly texts: Map<string, string>;
  readonly problems: string[];
}

function judgeCopy(name: string, { checks, texts, problems }: Read): LevelCopy {
  const rows = new Rows();
  const unmarked = new Map<string, string>();
  const stampText = texts.get(stampKey);
  const stamp = stampText === undefined ? undefined : readStamp(stampText);
  if (stampText !== undefined && stamp === undefined) problems.push(`${stampKey} is damaged`);
  texts.delete(stampKey);
  const isEarlier = checks.size === 0 && stampText === undefined;
  let unreadable = problems.length > 0;
  for (const [key, text] of texts) {
    const row = rowOf(key, text, checks.get(key));
    if (row) rows.put(row);
    else if (isJson(text)) unmarked.set(key, text);
    else unreadable = true;
    if (!row && !(isEarlier && unmarked.has(key))) problems.push(`${key} is damaged`);
  }
  const whole = problems.length === 0 && unmarked.size === 0 && stamp !== undefined && stamp.digest === rows.digest;
  if (!whole && problems.length === 0) problems.push(stamp ? 'rows are missing or old' : noStamp);
  return { name, stamp, rows, whole, problems, unmarked, earlier: isEarlier, unreadable };
}

function readStamp(value: string): Stamp | undefined {
  const text = unsealLine(value);
  return text === undefined ? undefined : stampOf(JSON.parse(text));
}

function isJson(value: string): boolean {
  try {
    JSON.parse(value);
    return true;
  } catch {
    return false;
  }
}
