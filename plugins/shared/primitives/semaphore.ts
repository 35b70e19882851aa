import { abortError } from '../source.js';

/** A counting semaphore; waiters go in order of arrival. */
export class Semaphore {
  #taken = 0;
  readonly #queue: (() => void)[] = [];
  constructor(public limit: number) {}

  /** Free permits; negative after the limit was lowered. */
  get free(): number {
    return this.limit - this.#taken;
  }
  /** Waits for a permit. @returns a function that gives it back @throws PluginError aborted */
  async take(signal: AbortSignal, what: string): Promise<() => void> {
    if (signal.aborted) throw abortError(what);
    if (this.#taken < this.limit) this.#taken++;
    else await this.#wait(signal, what);
    return () => {
      // after the limit was lowered, permits are dropped until the count fits
      const next = this.#taken > this.limit ? undefined : this.#queue.shift();
      if (next === undefined) this.#taken--;
      else next(); // hands the permit over
    };
  }
  #wait(signal: AbortSignal, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        signal.removeEventListener('abort', abort);
        resolve();
      };
      const abort = (): void => {
        const at = this.#queue.indexOf(go);
        if (at >= 0) this.#queue.splice(at, 1);
        reject(abortError(what));
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#queue.push(go);
    });
  }
}
