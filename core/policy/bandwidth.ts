import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal } from '../contract/index.js';

/** So much may go at once after a rest; also the longest wait between two looks at the limit. */
const burstMs = 250;

/** Bytes per second that all streams of a job on a target share; changed at any time, it holds from the next byte on. */
export class Bandwidth {
  #limit: number;
  #credit = 0;
  #since = performance.now();
  #changed = new AbortController();
  #turn: Promise<void> = Promise.resolve();

  /** @param limit bytes per second; 0 for no limit */
  constructor(limit = 0) {
    this.#limit = limit;
  }

  set(limit: number): void {
    if (limit === this.#limit) return;
    this.#limit = limit;
    this.#credit = 0;
    this.#since = performance.now();
    this.#changed.abort(); // whoever waits works out anew how long
    this.#changed = new AbortController();
  }

  /** Waits until so many bytes may go. First come, first served. @throws the signal's reason */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#limit === 0) return Promise.resolve();
    const turn = this.#turn.then(() => this.#wait(bytes, signal));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    // what a chunk takes beyond the credit is paid by the next one: chunks may be larger than any burst
    while (this.#limit > 0 && this.#refilled() <= 0) {
      signal.throwIfAborted();
      const ms = Math.min(burstMs, Math.ceil((-this.#credit * 1000) / this.#limit) + 1);
      await sleep(ms, undefined, { signal: anySignal(signal, this.#changed.signal) }).catch(() => undefined);
    }
    signal.throwIfAborted();
    this.#credit -= bytes;
  }

  #refilled(): number {
    const now = performance.now();
    this.#credit = Math.min((this.#limit * burstMs) / 1000, this.#credit + ((now - this.#since) * this.#limit) / 1000);
    this.#since = now;
    return this.#credit;
  }
}
