/** The only file that names Level: the first copy of every row, every write synced. A row lies there as any version reads it, and
 *  its check beside it under a key of its own: firmware that falls back to the version before must find its rows. */
import { ClassicLevel } from 'classic-level';
import { surviveLevel } from './probe.js';
import { type Copy, stampOf } from './reading.js';
import { type Changed, makeRow, type Row, Rows, type Stamp, sealLine, unsealLine } from './rows.js';

/** Written with each batch. */
const stampKey = 'meta/stamp';
const rowsAtOnce = 1000;
/** The problem of a database that a version before this one made. */
const noStamp = 'it has no stamp';

const checkPrefix = 'check/';
const checkText = ({ check, seq }: Row): string => `${check} ${seq}`;

/** undefined when a byte of it or of its check is not as it was written. */
function rowOf(key: string, text: string, checked: string | undefined): Row | undefined {
  const [, check, seq] = /^([0-9a-f]{32}) (\d+)$/.exec(checked ?? '') ?? [];
  if (seq === undefined) return undefined;
  const row = makeRow(key, Number(seq), text);
  return row.check === check ? row : undefined;
}

export interface LevelCopy extends Copy {
  /** Texts that are JSON and have no check that fits: written by a version before this one, or damaged. */
  readonly unmarked: ReadonlyMap<string, string>;
  /** Nothing has a check: only a version before this one has written there. */
  readonly earlier: boolean;
  /** Something in it is no row at all. */
  readonly unreadable: boolean;
}

export class Level {
  private constructor(
    private readonly folder: string,
    private readonly level: ClassicLevel<string, string>,
  ) {}

  /** @param o `make`: a new database, where there must be none; `probed`: it is known to be one that LevelDB survives
   *  @throws Error of Level, whose causes say why, and where Level would not survive to open it */
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
      await level.close().catch(() => undefined); // it is not open
      throw error;
    }
    return new Level(folder, level);
  }

  /** Makes a folder one that can be opened again, of the tables and logs that are in it. For a copy: what is damaged goes.
   *  Damage may end the process: only for one that is there for it (probing.ts). */
  static repair(folder: string): Promise<void> {
    return ClassicLevel.repair(folder);
  }

  /** Every row, whatever Level makes of damage. */
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

  /** All or nothing, durable when it resolves. After a failure it must be opened anew: Level refuses every later write. */
  async write(changed: Changed, stamp: Stamp): Promise<void> {
    const batch: Operation[] = [...changed].flatMap(([key, row]) => (row ? puts(row) : dels(key)));
    await this.level.batch([...batch, { type: 'put', key: stampKey, value: sealLine(JSON.stringify(stamp)) }], { sync: true });
  }

  /** Into a new database. The stamp goes last: without it the database is not whole. */
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
