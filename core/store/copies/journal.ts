/** The second copy of every row: an append-only file. Each line begins with its check, and each write is synced before it is
 *  acknowledged. A file begins with a snapshot of all rows; when it has grown to a multiple of them, a new file replaces it. */
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { syncFolder } from '../../primitives/durable.js';
import { type Changed, type Row, type Rows, type Stamp, sealLine } from './rows.js';

const nameOf = (number: number): string => `rows-${number}.log`;
/** Rows of a snapshot between two turns of the event loop. */
const rowsAtOnce = 500;
/** A shorter file is never replaced: that is not worth the syncs. */
const leastBytes = 1 << 20;
/** How many times the size of its rows a file may grow to. */
const growth = 4;

const headerLine = (stamp: Stamp, rows: number): string => sealLine(JSON.stringify({ journal: 1, ...stamp, rows }));
const rowLine = ({ key, seq, text }: Row): string => sealLine(`{"key":${JSON.stringify(key)},"seq":${seq},"value":${text}}`);

/** A write as a line. Values are put in verbatim, so that reading the line returns the same text. */
function changeLine({ seq, digest }: Stamp, changed: Changed): string {
  const changes = [...changed].map(([key, row]) => {
    const name = JSON.stringify(key);
    return row === undefined ? `{"key":${name},"deleted":true}` : `{"key":${name},"value":${row.text}}`;
  });
  return sealLine(`{"seq":${seq},"digest":"${digest}","changes":[${changes.join(',')}]}`);
}

/** Numbers of the files of a folder, newest first. */
export async function journalNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch(() => []);
  return names.flatMap((name) => Number(/^rows-(\d+)\.log$/.exec(name)?.[1] ?? Number.NaN) || []).sort((a, b) => b - a);
}

export const journalFile = (folder: string, number: number): string => join(folder, nameOf(number));

/** Lines with their length in bytes, line end included. The last line may lack its end. */
export async function* linesOf(file: string): AsyncGenerator<{ readonly text: string; readonly bytes: number }> {
  // latin1 has one character for each byte, so lengths are right for damaged lines, too.
  const lines = createInterface({ input: createReadStream(file, 'latin1'), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) yield { text: Buffer.from(line, 'latin1').toString('utf8'), bytes: line.length + 1 };
}

export class Journal {
  /** Length of the complete lines. */
  #bytes: number;
  /** Whether a failed append may have left bytes after them. */
  #torn = false;

  private constructor(
    private readonly folder: string,
    readonly number: number,
    private readonly handle: FileHandle,
    bytes: number,
    private readonly rowBytes: number,
  ) {
    this.#bytes = bytes;
  }

  /** Opens a file to append after its complete lines; cuts off the rest before the first append. */
  static async goOn(folder: string, number: number, bytes: number, rows: Rows): Promise<Journal> {
    const handle = await open(journalFile(folder, number), 'a', 0o600);
    const journal = new Journal(folder, number, handle, bytes, rows.bytes);
    journal.#torn = (await handle.stat()).size !== bytes;
    return journal;
  }

  /** Makes a new file with a snapshot; durable when it resolves. */
  static async create(folder: string, number: number, rows: Rows, stamp: Stamp): Promise<Journal> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = journalFile(folder, number);
    let bytes = 0;
    try {
      await using handle = await open(`${file}.new`, 'w', 0o600);
      for await (const piece of snapshot(rows, stamp)) {
        await handle.appendFile(piece);
        bytes += piece.length;
      }
      await handle.sync();
    } catch (error) {
      await rm(`${file}.new`, { force: true });
      throw error;
    }
    await rename(`${file}.new`, file);
    await syncFolder(folder);
    return Journal.goOn(folder, number, bytes, rows);
  }

  get file(): string {
    return journalFile(this.folder, this.number);
  }

  /** Whether a new file would be much shorter. */
  isLong(): boolean {
    return this.#bytes > Math.max(leastBytes, growth * this.rowBytes);
  }

  /** Appends a write; durable when it resolves. After a failure the line is cut off. @returns a function that removes the line
   *  again */
  async append(stamp: Stamp, changed: Changed): Promise<() => Promise<void>> {
    const before = this.#bytes;
    await this.#cut();
    const line = Buffer.from(`${changeLine(stamp, changed)}\n`);
    this.#torn = true;
    await this.handle.appendFile(line);
    await this.handle.datasync();
    this.#torn = false;
    this.#bytes += line.length;
    return async () => {
      this.#bytes = before;
      this.#torn = true;
      await this.#cut();
    };
  }

  async #cut(): Promise<void> {
    if (!this.#torn) return;
    await this.handle.truncate(this.#bytes);
    await this.handle.datasync();
    this.#torn = false;
  }

  async close(): Promise<void> {
    await this.#cut().catch(() => undefined); // the next start cuts it off
    await this.handle.close();
  }
}

async function* snapshot(rows: Rows, stamp: Stamp): AsyncGenerator<Buffer> {
  let lines = [headerLine(stamp, rows.size)];
  for (const row of rows) {
    lines.push(rowLine(row));
    if (lines.length < rowsAtOnce) continue;
    yield Buffer.from(`${lines.join('\n')}\n`);
    lines = [];
    await new Promise(setImmediate);
  }
  yield Buffer.from(lines.map((line) => `${line}\n`).join(''));
}
