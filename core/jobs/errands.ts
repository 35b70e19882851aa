/** Runs an undo or a purge in the queue while a client waits for it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError } from '../contract/index.js';
import type { Lock } from './schedule/locks.js';
import type { Queue } from './schedule/queue.js';

/** The same limit as for jobs when the service ends. */
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

  /** Runs `work` once its locks are free. @throws PluginError unavailable: the service ends first; and what `work` throws */
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

  /** Rejects errands that wait, so that their clients get an answer, and waits for those that run. */
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
