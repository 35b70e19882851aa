/**
 * The lock of a record on its target. Each writer puts a file whose name holds its appliance and job, and then lists the record:
 * of two writers at a time, at least one sees the other's file and gives way. A file's age is the difference between its time and
 * that of the file just put, both by the target's clock: clocks of appliances differ.
 */
import { Readable } from 'node:stream';
import { listRecord, type RecordListing } from '../archive/index.js';
import { type Entry, PluginError, type PluginLog, type Target } from '../contract/index.js';
import { retry } from '../policy/index.js';

const prefix = '.container-backup-lock-';
const refreshMs = 60_000;
const staleMs = 600_000;
/** Waits before each further try, ms. Half of each is random, so that two writers that gave way do not collide again. */
const waits: readonly number[] = [1_000, 3_000, 9_000, 20_000];

export interface RecordLock extends AsyncDisposable {
  /** The record's entries when the lock was taken. */
  readonly listing: RecordListing;
  /** Aborts with a PluginError when another writer took the record: nothing in it may be changed any more. */
  readonly lost: AbortSignal;
  /** Looks on the target whether the lock is still held. @throws PluginError record_in_use */
  check(): Promise<void>;
  /** Deletes the record and the lock in it. */
  removeRecord(): Promise<void>;
}
export interface RecordLockOptions {
  /** Id of this appliance; safe in a file name. */
  readonly appliance: string;
  readonly job: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Waits between tries; for tests. */
  readonly waits?: readonly number[];
  /** Time between two refreshes, ms; for tests. */
  readonly refreshMs?: number;
}

/** Takes the lock; disposing releases it. A file that this job left is reused. A file that nobody refreshed for ten minutes is removed.
 *  @throws PluginError record_in_use, and any error of the target */
export async function lockRecord(target: Target, record: string, o: RecordLockOptions): Promise<RecordLock> {
  const lock = new HeldLock(target, record, o);
  const again = (error: PluginError, ms: number) => o.log('info', `${record} is tried again in ${ms} ms: ${error.message}`);
  let may = false; // the target's policy retries everything else
  const take = () =>
    lock.take().catch((error: unknown) => {
      may = error instanceof PluginError && error.code === 'record_in_use';
      throw error;
    });
  await retry(take, { delays: o.waits ?? waits, signal: o.signal, onRetry: again, mayRetry: () => may });
  return lock;
}

/** Errors of a put while another appliance collects garbage in the record or removes its folder. */
const disturbed = ['not_found', 'exists', 'in_use', 'io', 'failed'];
/** A put that fails with one of these is repeated at once, so many times. */
const putAgain = 3;

/** The locks that a listing of a record shows. */
class Sight {
  own?: Entry;
  readonly others: Entry[] = [];
  /** A lock of the previous version is there. */
  hasBefore = false;
  /** The record holds nothing but locks. */
  alone = true;

  constructor(
    private readonly ownName: string,
    private readonly nameBefore: string,
  ) {}

  readonly add = (entry: Entry): void => {
    if (!entry.name.startsWith(prefix)) this.alone = false;
    else if (entry.name === this.ownName) this.own = entry;
    else if (entry.name === this.nameBefore) this.hasBefore = true;
    else this.others.push(entry);
  };
}

class HeldLock implements RecordLock {
  readonly #own: string;
  /** The lock name of the previous version, without a job: nobody holds it any more. */
  readonly #before: string;
  readonly #since = new Date().toISOString();
  readonly #lost = new AbortController();
  readonly lost = this.#lost.signal;
  #refreshing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Taking the lock made the record's folder. */
  #made = false;
  #ended = false;
  #listing: RecordListing | undefined;

  constructor(
    private readonly target: Target,
    private readonly record: string,
    private readonly o: RecordLockOptions,
  ) {
    this.#before = `${prefix}${o.appliance}`;
    this.#own = `${this.#before}-${o.job}`;
  }

  get listing(): RecordListing {
    if (this.#listing === undefined) throw new Error('the lock was not taken');
    return this.#listing;
  }

  /** One try. @throws PluginError record_in_use: another writer holds the lock */
  async take(): Promise<void> {
    await this.#begin();
    const sight = new Sight(this.#own, this.#before);
    this.#listing = await listRecord(this.target, this.record, sight.add); // the lock's holder reuses it: a listing over a slow line takes seconds
    const { own, others, hasBefore, alone } = sight;
    const isStale = ({ modified }: Entry) => own?.modified !== undefined && modified !== undefined && own.modified - modified > staleMs;
    const other = others.find((entry) => !isStale(entry));
    if (own === undefined || other !== undefined) {
      await this.target.remove(this.#path(this.#own));
      throw this.#inUse(other?.name);
    }
    // The writer that made the record may be removing it with everything in it: first its own lock, then this one.
    if (alone && (await this.target.stat(this.#path(this.#own))) === undefined) throw this.#inUse();
    this.#made = alone;
    if (hasBefore) await this.target.remove(this.#path(this.#before));
    for (const { name } of others) {
      this.o.log('warn', `${this.record}: ${name} is stale (not refreshed for ten minutes) and is removed`);
      await this.target.remove(this.#path(name));
    }
    this.#timer = setInterval(() => this.#refresh(), this.o.refreshMs ?? refreshMs);
  }

  async #begin(): Promise<void> {
    for (let left = putAgain; ; left--) {
      try {
        return await this.#write();
      } catch (error) {
        if (!(error instanceof PluginError && disturbed.includes(error.code))) throw error;
        const [other] = (await this.#look()).others;
        if (other) throw this.#inUse(other.name);
        if (left === 0) throw error;
      }
    }
  }

  async check(): Promise<void> {
    this.lost.throwIfAborted();
    if ((await this.target.stat(this.#path(this.#own))) !== undefined) return;
    this.#lost.abort(this.#inUse());
    this.lost.throwIfAborted();
  }

  async removeRecord(): Promise<void> {
    await this.#rest();
    await this.target.remove(this.record);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rest();
    if (this.lost.aborted) return;
    try {
      const { alone, others } = await this.#look();
      // A writer that lists the record from here on takes it.
      if (this.#made && alone && others.length === 0) await this.target.remove(this.record);
      else await this.target.remove(this.#path(this.#own));
    } catch (error) {
      this.o.log('warn', `${this.record} stays locked for others for ten minutes: ${error}`);
    }
  }

  /** Stops the refreshing. */
  async #rest(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#timer);
    await this.#refreshing;
  }

  /** A failed refresh waits for the next one. After ten minutes without a good one another writer may take the lock. */
  #refresh(): void {
    this.#refreshing ??= this.check()
      .then(() => (this.#ended ? undefined : this.#write()))
      .catch((error: unknown) => this.o.log('info', `the lock of ${this.record} could not be refreshed: ${error}`))
      .finally(() => {
        this.#refreshing = undefined;
      });
  }

  async #write(): Promise<void> {
    const { appliance, job } = this.o;
    const text = JSON.stringify({ appliance, job, since: this.#since, refreshed: new Date().toISOString() });
    await this.target.put(this.#path(this.#own), Readable.from([Buffer.from(`${text}\n`)]), { signal: this.o.signal, replace: true });
  }

  async #look(): Promise<Sight> {
    const sight = new Sight(this.#own, this.#before);
    for await (const entry of this.target.list(this.record, { unfinished: true, modified: true })) sight.add(entry);
    return sight;
  }

  #inUse(other?: string): PluginError {
    const why = other === undefined ? `removed ${this.#own}` : `has put ${other} there`;
    const who = other?.startsWith(`${this.#before}-`) ? 'another job of this appliance' : 'another appliance';
    const fix = 'try again when it has ended, or give each job a job_name or path of its own';
    return new PluginError('record_in_use', `${who} writes to ${this.record}: it ${why}; ${fix}`, { retryable: true });
  }

  #path(name: string): string {
    return `${this.record}/${name}`;
  }
}
