/** Who may run now: at most `limit` runs, each with all of its locks, first come first served. */

import { Mutex } from '../../primitives/mutex.js';
import { areFree, type Lock } from './locks.js';

export interface QueueEntry {
  readonly key: string;
  /** Asked anew each time that it may start: what waits may be changed. Must not reject. */
  locks(): Promise<readonly Lock[]>;
  /** Runs to its end, at once after the locks were told; must not reject. */
  start(): Promise<void>;
}

export interface Queue {
  enter(entry: QueueEntry): void;
  /** Takes a waiting entry out; false when it is not waiting (any more). */
  leave(key: string): boolean;
  /** Looks again, for a limit that was raised or an entry that was changed. */
  pump(): void;
  /** Nothing starts any more. */
  close(): void;
  /** Nothing starts until the returned function is called; more than one may hold it. */
  hold(): () => void;
  /** Keys of what runs. */
  running(): readonly string[];
  counts(): { readonly waiting: number; readonly running: number };
}

export function createQueue(limit: () => Promise<number>, failed: (error: unknown) => void): Queue {
  return new FairQueue(limit, failed);
}

class FairQueue implements Queue {
  readonly #waiting: QueueEntry[] = [];
  readonly #running = new Map<QueueEntry, readonly Lock[]>();
  readonly #holds = new Set<symbol>();
  #closed = false;
  #isAsked = false;
  readonly #looks = new Mutex(); // limit and locks are read asynchronously: one look at a time

  constructor(
    private readonly limit: () => Promise<number>,
    private readonly failed: (error: unknown) => void,
  ) {}

  enter(entry: QueueEntry): void {
    this.#waiting.push(entry);
    this.pump();
  }

  leave(key: string): boolean {
    const at = this.#waiting.findIndex((entry) => entry.key === key);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    this.pump(); // others may have waited behind it
    return true;
  }

  pump(): void {
    if (this.#isAsked) return; // a look that has not begun sees all of this
    this.#isAsked = true;
    const look = () => {
      this.#isAsked = false;
      return this.#look();
    };
    this.#looks.run(look).catch(this.failed);
  }

  close(): void {
    this.#closed = true;
  }

  counts() {
    return { waiting: this.#waiting.length, running: this.#running.size };
  }

  running(): readonly string[] {
    return [...this.#running.keys()].map(({ key }) => key);
  }

  hold(): () => void {
    const mine = Symbol();
    this.#holds.add(mine);
    return () => {
      this.#holds.delete(mine);
      this.pump();
    };
  }

  /** Nobody passes one who waits longer for the same container or record. Slots may be passed: they are for whoever can use them. */
  async #look(): Promise<void> {
    const most = Math.max(1, await this.limit());
    const claimed: Lock[] = [];
    for (const entry of [...this.#waiting]) {
      if (this.#running.size >= most) return;
      const locks = await entry.locks();
      if (this.#closed || this.#holds.size > 0) return;
      if (!this.#waiting.includes(entry)) continue;
      if (areFree(locks, [...this.#running.values()].flat(), claimed)) this.#start(entry, locks);
      else claimed.push(...locks);
    }
  }

  #start(entry: QueueEntry, locks: readonly Lock[]): void {
    this.#waiting.splice(this.#waiting.indexOf(entry), 1);
    this.#running.set(entry, locks);
    const ended = () => {
      this.#running.delete(entry);
      this.pump();
    };
    entry.start().catch(this.failed).finally(ended);
  }
}
