/** What is done in the queue beside the jobs' own runs while a client waits for it: an undo, a purge. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError } from '../contract/index.js';
import type { Lock } from './schedule/locks.js';
import type { Queue } from './schedule/queue.js';

/** As long as the service waits for its jobs when it ends. */
const closeMs = 8_000;

export const ending = () => new PluginError('unavailable', 'the service ends; ask again once it runs', { retryable: true });

interface Waiting {
  readonly key: string;
  refuse(error: PluginError): void;
}

export class Errands {
  readonly #waiting = new Set<Waiting>();
  readonly #running = new Set<Promise<unknown>>();
  #closed = false;

  constructor(private readonly queue: Queue) {}

  /** Does it once its locks are free. @throws PluginError unavailable when the service ends before, and what `work` throws */
  run<T>(key: string, locks: readonly Lock[], work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) return reject(ending());
      const waiting = { key, refuse: reject };
      this.#waiting.add(waiting);
      const start = async () => {
        this.#waiting.delete(waiting);
        const ended = work().then(resolve, reject);
        this.#running.add(ended);
        await ended.finally(() => this.#running.delete(ended));
      };
      this.queue.enter({ key, locks: async () => locks, start });
    });
  }

  /** Refuses what waits, so that whoever asked has an answer, and waits for what runs. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { key, refuse } of this.#waiting) {
      this.queue.leave(key);
      refuse(ending());
    }
    this.#waiting.clear();
    const late = new AbortController();
    const limit = sleep(closeMs, undefined, { signal: late.signal }).catch(() => undefined);
    await Promise.race([Promise.allSettled(this.#running), limit]);
    late.abort();
  }
}
