/** Ended runs: one file for each job, one JSON line for each run, appended with fsync. They are no rows, since all rows are in
 *  memory. */
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { PluginLog } from '../contract/index.js';
import type { HistoryRow, HistoryRows, JobKind } from '../jobs/job.js';
import { durableFile, syncFolder } from '../primitives/durable.js';
import { hasCode } from '../primitives/guards.js';
import { KeyedMutex } from '../primitives/mutex.js';
import { parse, parseOwn } from '../schemas.js';

/** Runs to store of a job; a file with twice as many is shortened. */
const most = 1_000;

interface Ends {
  /** Lines in the file. */
  lines: number;
  /** Id of the next row. */
  next: number;
}

/** @param folder is created with its first file */
export function openHistory(folder: string, log: PluginLog): HistoryRows {
  return new HistoryFiles(folder, log);
}

class HistoryFiles implements HistoryRows {
  readonly #mutex = new KeyedMutex<string>();
  /** Files that were read since the start. */
  readonly #ends = new Map<string, Ends>();

  constructor(
    private readonly folder: string,
    private readonly log: PluginLog,
  ) {}

  append(row: Omit<HistoryRow, 'id'>): Promise<HistoryRow> {
    const file = this.#file(row.kind, row.job);
    return this.#mutex.run(file, async () => {
      const ends = this.#ends.get(file) ?? (await this.#readEnds(file));
      const numbered = parse('history', { ...row, id: ends.next }); // parsed first: an unreadable line is never written
      await appendLine(file, JSON.stringify(numbered), ends.lines === 0);
      this.#ends.set(file, { lines: ends.lines + 1, next: ends.next + 1 });
      if (ends.lines + 1 >= 2 * most) await this.#shorten(file);
      return numbered;
    });
  }

  list(kind: JobKind, job: number, { before, limit }: { readonly before?: number; readonly limit: number }): Promise<HistoryRow[]> {
    const file = this.#file(kind, job);
    return this.#mutex.run(file, async () => {
      const rows: HistoryRow[] = [];
      for (const row of newestFirst(await readFile(file, 'utf8').catch(unlessAbsent))) {
        if (rows.length === limit) break;
        if (before === undefined || row.id < before) rows.push(row);
      }
      return rows;
    });
  }

  delete(kind: JobKind, job: number): Promise<void> {
    const file = this.#file(kind, job);
    return this.#mutex.run(file, async () => {
      await rm(file, { force: true });
      this.#ends.delete(file);
    });
  }

  #file(kind: JobKind, job: number): string {
    return join(this.folder, `${kind}-${job}.jsonl`);
  }

  /** Skips damaged lines, such as one that a power cut left half written. */
  async #read(file: string): Promise<HistoryRow[]> {
    const text = await readFile(file, 'utf8').catch(unlessAbsent);
    const rows: HistoryRow[] = [];
    let damaged = 0;
    for (const line of text.split('\n').filter((one) => one !== '')) {
      const row = rowIn(line);
      if (row) rows.push(row);
      else damaged++;
    }
    if (damaged > 0) this.log('warn', `${file}: ${damaged} lines of the history are damaged and are passed over`);
    return rows;
  }

  async #readEnds(file: string): Promise<Ends> {
    const rows = await this.#read(file);
    return { lines: rows.length, next: Math.max(0, ...rows.map(({ id }) => id)) + 1 };
  }

  async #shorten(file: string): Promise<void> {
    const rows = (await this.#read(file)).slice(-most);
    await durableFile(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    this.#ends.set(file, { lines: rows.length, next: (rows.at(-1)?.id ?? 0) + 1 });
  }
}

/** The newest `most` rows of a file. Parses a line only when its row is asked for. */
function* newestFirst(text: string): Generator<HistoryRow> {
  let left = most;
  for (let end = text.length; end > 0 && left > 0; ) {
    const start = text.lastIndexOf('\n', end - 1) + 1;
    const row = start < end ? rowIn(text.slice(start, end)) : undefined;
    if (row) {
      left--;
      yield row;
    }
    end = start - 1;
  }
}

function rowIn(line: string): HistoryRow | undefined {
  try {
    return parseOwn('history', JSON.parse(line));
  } catch {
    return undefined; // the caller counts it
  }
}

function unlessThere(error: unknown): void {
  if (!hasCode(error, 'EEXIST')) throw error;
}

function unlessAbsent(error: unknown): string {
  if (hasCode(error, 'ENOENT')) return '';
  throw error;
}

/** Starts with a line end: then a half-written line before, left by a power cut, does not spoil this one. */
async function appendLine(file: string, line: string, isFirst: boolean): Promise<void> {
  const folder = dirname(file);
  if (isFirst) await mkdir(folder, { mode: 0o700 }).catch(unlessThere);
  {
    await using handle = await open(file, 'a', 0o600);
    await handle.writeFile(`${isFirst ? '' : '\n'}${line}\n`);
    await handle.datasync();
  }
  if (!isFirst) return;
  await syncFolder(folder);
  await syncFolder(dirname(folder));
}
