/** The only file that names Level: the first copy of every row, each with a check of its own, every write synced. */
import { ClassicLevel } from 'classic-level';
import { type Copy, stampOf } from './reading.js';
import { type Changed, makeRow, type Row, Rows, type Stamp, sealLine, unsealLine } from './rows.js';

/** Written with each batch. */
const stampKey = 'meta/stamp';
const rowsAtOnce = 1000;
/** The problem of a database that a version before this one made. */
export const noStamp = 'it has no stamp';

const storedText = ({ check, seq, text }: Row): string => `${check} ${seq} ${text}`;

/** undefined when a byte of it is not as it was written. */
function rowOf(key: string, value: string): Row | undefined {
  const [, check, seq, text] = /^([0-9a-f]{32}) (\d+) (.*)$/s.exec(value) ?? [];
  if (seq === undefined || text === undefined) return undefined;
  const row = makeRow(key, Number(seq), text);
  return row.check === check ? row : undefined;
}

export interface LevelCopy extends Copy {
  /** Rows of a database that a version before this one made: without checks and without a stamp. */
  readonly unmarked: ReadonlyMap<string, string>;
}

export class Level {
  private constructor(
    private readonly folder: string,
    private readonly level: ClassicLevel<string, string>,
  ) {}

  /** @param make a new database, where there must be none @throws Error of Level, whose causes say why */
  static async open(folder: string, { make = false }: { readonly make?: boolean } = {}): Promise<Level> {
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

  /** Makes a folder one that can be opened again, of the tables and logs that are in it. For a copy: what is damaged goes. */
  static repair(folder: string): Promise<void> {
    return ClassicLevel.repair(folder);
  }

  /** Every row, whatever Level makes of damage. */
  async read(): Promise<LevelCopy> {
    const rows = new Rows();
    const unmarked = new Map<string, string>();
    const problems: string[] = [];
    let stamp: Stamp | undefined;
    try {
      for await (const [key, value] of this.level.iterator({ highWaterMarkBytes: 1 << 20 })) {
        if (key === stampKey) stamp = readStamp(value);
        const row = key === stampKey ? undefined : rowOf(key, value);
        if (row) rows.put(row);
        else if (key !== stampKey && isJson(value)) unmarked.set(key, value);
        else if (key !== stampKey || stamp === undefined) problems.push(`${key} is damaged`);
      }
    } catch (error) {
      problems.push(`it cannot be read to its end: ${error instanceof Error ? error.message : error}`);
    }
    const whole = problems.length === 0 && unmarked.size === 0 && stamp !== undefined && stamp.digest === rows.digest;
    if (!whole && problems.length === 0) problems.push(stamp ? 'rows are missing or old' : noStamp);
    return { name: this.folder, stamp, rows, whole, problems, unmarked };
  }

  /** All or nothing, durable when it resolves. After a failure it must be opened anew: Level refuses every later write. */
  async write(changed: Changed, stamp: Stamp): Promise<void> {
    const batch = [...changed].map(([key, row]) =>
      row ? ({ type: 'put', key, value: storedText(row) } as const) : ({ type: 'del', key } as const),
    );
    await this.level.batch([...batch, { type: 'put', key: stampKey, value: sealLine(JSON.stringify(stamp)) }], { sync: true });
  }

  /** Into a new database. The stamp goes last: without it the database is not whole. */
  async fill(rows: Rows, stamp: Stamp): Promise<void> {
    let piece: { type: 'put'; key: string; value: string }[] = [];
    for (const row of rows) {
      piece.push({ type: 'put', key: row.key, value: storedText(row) });
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
