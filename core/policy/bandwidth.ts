import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal } from '../contract/index.js';
import { Mutex } from '../primitives/mutex.js';

/** Ms. The token bucket holds the bytes of so much time, and no wait is longer. */
const burstMs = 250;

/** Token bucket: all streams of a job on one target share its bytes per second. A new limit applies from the next byte on. */
export class Bandwidth {
  #limit: number;
  #credit = 0;
  #since = performance.now();
  #changed = new AbortController();
  readonly #waits = new Mutex();

  /** @param limit bytes per second; 0 for no limit */
  constructor(limit = 0) {
    this.#limit = limit;
  }

  set(limit: number): void {
    if (limit === this.#limit) return;
    this.#limit = limit;
    this.#credit = 0;
    this.#since = performance.now();
    this.#changed.abort(); // waiting streams compute their wait anew
    this.#changed = new AbortController();
  }

  /** Waits until so many bytes may pass; first come, first served. @throws the signal's reason */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#limit === 0) return Promise.resolve();
    return this.#waits.run(() => this.#wait(bytes, signal));
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    // Token bucket with debt: a chunk may exceed the burst; the next one waits it off.
    while (this.#limit > 0 && this.#refill() <= 0) {
      signal.throwIfAborted();
      const ms = Math.min(burstMs, Math.ceil((-this.#credit * 1000) / this.#limit) + 1);
      await sleep(ms, undefined, { signal: anySignal(signal, this.#changed.signal) }).catch(() => undefined);
    }
    signal.throwIfAborted();
    this.#credit -= bytes;
  }

  #refill(): number {
    const now = performance.now();
    this.#credit = Math.min((this.#limit * burstMs) / 1000, this.#credit + ((now - this.#since) * this.#limit) / 1000);
    this.#since = now;
    return this.#credit;
  }
}
