/**
 * The lock of a record on its target, for all whose place leads there: who writes holds a file of its own name, that of its
 * appliance and its job. It puts its file first and looks for others then, so that of two at a time at least one sees the other.
 * How old a file is is told by the target alone, against the one that was just put: clocks of appliances differ.
 */
import { Readable } from 'node:stream';
import { listRecord, type RecordListing } from '../archive/index.js';
import { type Entry, PluginError, type PluginLog, type Target } from '../contract/index.js';
import { retry } from '../policy/index.js';

const prefix = '.container-backup-lock-';
const refreshMs = 60_000;
const staleMs = 600_000;
/** Before each further try to take it, half of it chance: two that gave way to each other do not come back together. */
const waits: readonly number[] = [1_000, 3_000, 9_000, 20_000];

export interface RecordLock extends AsyncDisposable {
  /** What lay in the record when it was taken. */
  readonly listing: RecordListing;
  /** Aborted, with a PluginError, when the record is another's by now: nothing of it may be touched then. */
  readonly lost: AbortSignal;
  /** Asks the target. @throws PluginError record_in_use */
  check(): Promise<void>;
  /** Removes all of the record, and the lock with it. */
  removeRecord(): Promise<void>;
}
export interface RecordLockOptions {
  /** Id of this appliance, which may be a part of a file's name. */
  readonly appliance: string;
  readonly job: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Waits between tries; for tests. */
  readonly waits?: readonly number[];
  /** Time between two refreshes, ms; for tests. */
  readonly refreshMs?: number;
}

/** Takes it. A file that was left by this job is its own again; one that nobody refreshed for ten minutes is removed.
 *  Disposing gives it back. @throws PluginError record_in_use, and what the target throws */
export async function lockRecord(target: Target, record: string, o: RecordLockOptions): Promise<RecordLock> {
  const lock = new HeldLock(target, record, o);
  const again = (error: PluginError, ms: number) => o.log('info', `${record} is tried again in ${ms} ms: ${error.message}`);
  let may = false; // what else may fail is tried again by the target's own policy
  const take = () =>
    lock.take().catch((error: unknown) => {
      may = error instanceof PluginError && error.code === 'record_in_use';
      throw error;
    });
  await retry(take, { delays: o.waits ?? waits, signal: o.signal, onRetry: again, mayRetry: () => may });
  return lock;
}

/** What a put may fail with because another appliance collects the garbage of the record meanwhile, or takes its folder away. */
const disturbed = ['not_found', 'exists', 'in_use', 'io', 'failed'];
/** So often a put that failed with one of these is made again at once. */
const putAgain = 3;

/** What a look at a record finds of locks. */
class Sight {
  own?: Entry;
  readonly others: Entry[] = [];
  /** One of the version before is there. */
  hasBefore = false;
  /** Nothing but locks is there. */
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
  /** That of a version whose lock was the appliance's, whatever the job: nobody holds it any more. */
  readonly #before: string;
  readonly #since = new Date().toISOString();
  readonly #lost = new AbortController();
  readonly lost = this.#lost.signal;
  #refreshing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** The record was made by it. */
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

  /** One try. @throws PluginError record_in_use, when another has it */
  async take(): Promise<void> {
    await this.#begin();
    const sight = new Sight(this.#own, this.#before);
    this.#listing = await listRecord(this.target, this.record, sight.add); // also for who has the lock: over a long way it takes long
    const { own, others, hasBefore, alone } = sight;
    const isStale = ({ modified }: Entry) => own?.modified !== undefined && modified !== undefined && own.modified - modified > staleMs;
    const other = others.find((entry) => !isStale(entry));
    if (own === undefined || other !== undefined) {
      await this.target.remove(this.#path(this.#own));
      throw this.#inUse(other?.name);
    }
    // Whoever had made the record may be taking it away, with all that came into it since: its lock goes first, and this one next.
    if (alone && (await this.target.stat(this.#path(this.#own))) === undefined) throw this.#inUse();
    this.#made = alone;
    if (hasBefore) await this.target.remove(this.#path(this.#before));
    for (const { name } of others) {
      this.o.log('warn', `${this.record}: ${name} was not refreshed for ten minutes and is removed`);
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
      // Whoever comes meanwhile, and sees this lock gone, has the record by then.
      if (this.#made && alone && others.length === 0) await this.target.remove(this.record);
      else await this.target.remove(this.#path(this.#own));
    } catch (error) {
      this.o.log('warn', `${this.record} stays locked for others for ten minutes: ${error}`);
    }
  }

  /** Refreshes no more. */
  async #rest(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#timer);
    await this.#refreshing;
  }

  /** One that fails is followed by the next; when none is good for ten minutes another may take the lock. */
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
