/** Rows in memory, and two copies of them on disk. A write is acknowledged when both are synced, first the journal, then the
 *  database. Writes that wait for the disk share the next sync. */

import { Mutex } from '../../primitives/mutex.js';
import { isNoSpace, stateErrorOf, wordsOf, writeError } from '../failure.js';
import { Level } from './db.js';
import type { Journal } from './journal.js';
import { openByJournal, openWithRoom, type ReadState } from './no-room.js';
import { Reserve, reserveBytes } from './reserve.js';
import { type Changed, type KeyRange, makeRow, type Row, type Rows, type Stamp } from './rows.js';
import { levelFolder, openState, remakeLevel, type StateFolders, setAside, unlessMissing } from './state.js';
import { isWholeJournal, renewJournal } from './upkeep.js';

export type Change =
  | { readonly type: 'put'; readonly key: string; readonly value: unknown }
  | { readonly type: 'del'; readonly key: string };

/** What a write does on a full disk. `plain`: it is refused. `reserve`: it uses the reserve. `late`: it uses the reserve, and when
 *  that is used up or the disk fails, it stays in memory, where reads see it, and is written once there is room. */
export type Urgency = 'plain' | 'reserve' | 'late';

export interface Database {
  get(key: string): Row | undefined;
  /** Rows of a kind, in key order. */
  list(kind: string, range?: KeyRange): readonly Row[];
  /** All or nothing, durable when it resolves. @throws PluginError no_space, unavailable */
  write(changes: readonly Change[], urgency?: Urgency): Promise<void>;
  /** A mutex for read-then-write: actions run one after the other. */
  serial<T>(action: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

interface Waiting {
  readonly changes: ReadonlyMap<string, string | undefined>;
  readonly urgency: Urgency;
  resolve(): void;
  reject(error: Error): void;
}

/** Ms between tries while a write waits for room. */
const tendEvery = 5_000;

export interface DatabaseOptions extends StateFolders {
  /** Milliseconds between comparisons of both copies. */
  readonly compareEvery: number;
}

/** @throws ServiceError, StateDamaged */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const reserve = new Reserve(options.folder, options.log);
  await reserve.makeRoom(); // LevelDB writes when it opens
  const state = await openState(options).catch((error: unknown) => {
    if (!isNoSpace(error)) throw error;
    return openByJournal(options);
  });
  await reserve.open();
  return new KeptDatabase(options, state, reserve);
}

class KeptDatabase implements Database {
  readonly #rows: Rows;
  #stamp: Stamp;
  /** undefined: a start without room did not open it, or it failed to reopen after a failed write. */
  #level: Level | undefined;
  #isOpened: boolean;
  #journal: Journal;
  /** Late rows in memory, which reads see as written; undefined ones are deleted. */
  readonly #late = new Map<string, Row | undefined>();
  readonly #queue: Waiting[] = [];
  #working: Promise<void> | undefined;
  readonly #changes = new Mutex();
  #closed = false;
  #told = '';
  #tend: NodeJS.Timeout | undefined;
  #compare: NodeJS.Timeout | undefined;

  constructor(
    private readonly options: DatabaseOptions,
    { rows, stamp, level, journal }: ReadState,
    private readonly reserve: Reserve,
  ) {
    this.#rows = rows;
    this.#stamp = stamp;
    this.#level = level;
    this.#isOpened = level !== undefined;
    this.#journal = journal;
    if (!level) this.#tendLater();
    this.#compareLater();
  }

  get(key: string): Row | undefined {
    return this.#late.has(key) ? this.#late.get(key) : this.#rows.get(key);
  }

  list(kind: string, range?: KeyRange): readonly Row[] {
    const rows = this.#rows.list(kind, range);
    return this.#late.size === 0 ? rows : rows.flatMap((row) => this.get(row.key) ?? []);
  }

  write(changes: readonly Change[], urgency: Urgency = 'plain'): Promise<void> {
    const texts = new Map(changes.map((c) => [c.key, c.type === 'put' ? JSON.stringify(c.value) : undefined]));
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('the database is closed'));
      this.#queue.push({ changes: texts, urgency, resolve, reject });
      this.#work();
    });
  }

  serial<T>(action: () => Promise<T>): Promise<T> {
    return this.#changes.run(action);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#compare);
    clearTimeout(this.#tend);
    await this.#working;
    if (this.#late.size > 0)
      await this.#commit([]).catch((error) => this.options.log('error', `results of runs are lost: ${wordsOf(error)}`));
    await this.#journal.close();
    await this.#level?.close();
  }

  #work(): void {
    this.#exclusively(async () => {
      if (this.#queue.length > 0) await this.#settle(this.#queue.splice(0));
    });
  }

  /** Runs an action while nothing else uses the copies. */
  #exclusively(action: () => Promise<void>): void {
    const before = this.#working;
    const work = (before ?? Promise.resolve()).then(action).catch((error) => this.options.log('error', `the database: ${wordsOf(error)}`));
    this.#working = work;
    void work.then(() => {
      if (this.#working === work) this.#working = undefined;
    });
  }

  /** Commits the queued writes together, and settles each. */
  async #settle(all: readonly Waiting[]): Promise<void> {
    const held = all.every(({ urgency }) => urgency !== 'plain') || (await this.reserve.hold());
    const [asked, refused] = held ? [all, []] : [urgent(all), all.filter(({ urgency }) => urgency === 'plain')];
    for (const one of refused) one.reject(await writeError(this.options.folder, new Error('ENOSPC'), reserveBytes));
    const failure = await this.#tryWrites(asked);
    if (failure === undefined) return;
    const needed = (writes: readonly Waiting[]) => writes.reduce((sum, { changes }) => sum + 2 * sizeOf(changes), 0);
    for (const one of asked) if (one.urgency === 'plain') one.reject(await writeError(this.options.folder, failure, needed([one])));
    const rest = urgent(asked);
    const again = rest.length > 0 && isNoSpace(failure) && (await this.reserve.release()) ? await this.#tryWrites(rest) : failure;
    if (again === undefined) return this.#tendLater();
    for (const one of rest) {
      if (one.urgency === 'reserve') one.reject(await writeError(this.options.folder, again, needed([one])));
      else this.#holdLate(one, again);
    }
  }

  /** @returns why it failed */
  async #tryWrites(writes: readonly Waiting[]): Promise<unknown> {
    try {
      await this.#commit(writes);
    } catch (error) {
      return error ?? new Error('the write failed without an error');
    }
    for (const one of writes) one.resolve();
    return undefined;
  }

  #holdLate({ changes, resolve }: Waiting, why: unknown): void {
    if (this.#late.size === 0) this.options.log('error', `results of runs wait in memory until they can be written: ${wordsOf(why)}`);
    for (const [key, text] of changes) this.#late.set(key, text === undefined ? undefined : makeRow(key, this.#stamp.seq, text));
    resolve();
    this.#tendLater();
  }

  #tendLater(): void {
    if (this.#closed) return;
    clearTimeout(this.#tend);
    this.#tend = setTimeout(() => this.#exclusively(() => this.#tendNow()), tendEvery).unref();
  }

  /** Writes late rows, and makes the reserve again. */
  async #tendNow(): Promise<void> {
    const waited = this.#late.size;
    try {
      await this.#openLevel();
      await this.#commit([]);
    } catch (error) {
      this.#tell(error); // the next try follows
    }
    if (waited > 0 && this.#late.size === 0) this.options.log('info', `the results that waited in memory are written: ${waited} rows`);
    const held = await this.reserve.hold();
    if (held) this.options.log('info', `there is room in ${this.options.folder} again`);
    if (!held || this.#late.size > 0) this.#tendLater();
  }

  /** Logs an error once, unless it is a full disk, which is logged elsewhere. */
  #tell(error: unknown): void {
    const words = wordsOf(error);
    if (!isNoSpace(error) && words !== this.#told) this.options.log('error', `the database: ${words}`);
    this.#told = words;
  }

  async #commit(writes: readonly Waiting[]): Promise<void> {
    const texts = new Map([...this.#late].map(([key, row]) => [key, row?.text]));
    for (const { changes } of writes) for (const [key, text] of changes) texts.set(key, text);
    if (texts.size === 0) return;
    const seq = this.#stamp.seq + 1;
    const changed: Changed = new Map([...texts].map(([key, text]) => [key, text === undefined ? undefined : makeRow(key, seq, text)]));
    const stamp = { id: this.#stamp.id, seq, digest: this.#rows.digestAfter(changed) };
    const level = await this.#openLevel();
    const takeBack = await this.#journal.append(stamp, changed);
    try {
      await level.write(changed, stamp);
    } catch (error) {
      await takeBack().catch((why) => this.options.log('error', `the journal: ${wordsOf(why)}`)); // else the next append cuts it off
      await this.#reopen().catch((why) => this.options.log('warn', `the database cannot be opened again yet: ${wordsOf(why)}`));
      throw error;
    }
    this.#rows.apply(changed);
    this.#stamp = stamp;
    this.#late.clear();
    if (this.#journal.isLong()) await this.#renewJournal();
  }

  async #openLevel(): Promise<Level> {
    if (this.#level) return this.#level;
    if (this.#isOpened) return this.#reopen();
    const { level, journal } = await openWithRoom(this.options, { rows: this.#rows, stamp: this.#stamp }, this.#journal);
    this.#level = level;
    this.#journal = journal;
    this.#isOpened = true;
    return level;
  }

  /** Reopens the database: after a failed write LevelDB refuses all others until then, and may yet contain the failed one. */
  async #reopen(): Promise<Level> {
    const { folder, log } = this.options;
    const old = this.#level;
    this.#level = undefined;
    await old?.close();
    const state = { rows: this.#rows, stamp: this.#stamp };
    try {
      const level = await Level.open(levelFolder(folder));
      const copy = await level.read();
      if (copy.whole && copy.stamp?.id === state.stamp.id) {
        const lacked = state.stamp.seq - copy.stamp.seq; // below 0: it contains the failed write
        if (lacked !== 0 || copy.stamp.digest !== state.stamp.digest) await level.write(state.rows.differencesFrom(copy.rows), state.stamp);
        if (lacked > 0) log('warn', `the database lacked the last ${lacked} writes; they were written again from memory`);
        this.#level = level;
        return level;
      }
      await level.close();
    } catch (error) {
      if (isNoSpace(error) || stateErrorOf(folder, error)) throw error;
    }
    const { level, aside } = await remakeLevel(folder, state);
    log('warn', `the database is damaged; it is rebuilt from memory${keptAs(aside)}`);
    this.#level = level;
    return level;
  }

  async #renewJournal(): Promise<void> {
    const state = { rows: this.#rows, stamp: this.#stamp };
    try {
      this.#journal = await renewJournal(this.options.folder, this.#journal, state);
    } catch (error) {
      this.options.log('warn', `the journal cannot be shortened yet: ${wordsOf(error)}`); // it goes on as it is
    }
  }

  #compareLater(): void {
    if (this.#closed) return;
    const compare = () => this.#exclusively(() => this.#checkCopies().finally(() => this.#compareLater()));
    this.#compare = setTimeout(compare, this.options.compareEvery).unref();
  }

  /** Reads both copies from disk. Reopens LevelDB first, which needs room: its cache in memory would hide a damaged file. */
  async #checkCopies(): Promise<void> {
    if (!(await this.reserve.hold())) return;
    await this.#commit([]); // late rows are no damage
    await (this.#isOpened ? this.#reopen() : this.#openLevel());
    const { folder, log } = this.options;
    const state = { rows: this.#rows, stamp: this.#stamp };
    if (!(await isWholeJournal(this.#journal, state))) {
      const aside = await setAside(this.#journal.file, 'damaged').catch(unlessMissing);
      this.#journal = await renewJournal(folder, this.#journal, state);
      log('warn', `the journal is damaged; it is rebuilt from memory${keptAs(aside)}`);
    }
    log('debug', 'both copies of the state were compared');
  }
}

const keptAs = (aside: string | undefined): string => (aside === undefined ? '' : `, the old one was set aside as ${aside}`);

const urgent = (writes: readonly Waiting[]): Waiting[] => writes.filter(({ urgency }) => urgency !== 'plain');

const sizeOf = (changes: Waiting['changes']): number =>
  [...changes].reduce((sum, [key, text]) => sum + key.length + (text?.length ?? 0), 0);
