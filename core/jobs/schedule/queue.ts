/** The run queue: at most `limit` runs at a time, each with all of its locks, first come first served. */

import { Mutex } from '../../primitives/mutex.js';
import { areFree, type Lock } from './locks.js';

export interface QueueEntry {
  readonly key: string;
  /** Called each time the entry might start, because a waiting job may be edited. Must not reject. */
  locks(): Promise<readonly Lock[]>;
  /** Runs to the end. Called right after `locks` were granted. Must not reject. */
  start(): Promise<void>;
}

export interface Queue {
  enter(entry: QueueEntry): void;
  /** Removes a waiting entry. @returns false when it does not wait */
  leave(key: string): boolean;
  /** Tries to start entries, after a limit or an entry changed. */
  pump(): void;
  /** Starts nothing any more. */
  close(): void;
  /** Starts nothing until the returned function is called. Several holds add up. */
  hold(): () => void;
  /** Keys of the running entries. */
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
  readonly #looks = new Mutex(); // limit and locks are read asynchronously, so one look at a time

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
    this.pump(); // others may have waited for its locks
    return true;
  }

  pump(): void {
    if (this.#isAsked) return; // the next look, which has not begun, sees the change
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

  /** No entry overtakes one that waits longer for the same container or record. A free connection goes to the first entry that can use it. */
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
