import { abortError } from './source.js';

/** So many at a time; the others wait in the order they came. */
export class Semaphore {
  #taken = 0;
  readonly #queue: (() => void)[] = [];
  constructor(public limit: number) {}

  /** How many could be taken now. */
  get free(): number {
    return this.limit - this.#taken;
  }
  /** Gives back what ends the turn. @throws PluginError aborted */
  async take(signal: AbortSignal, what: string): Promise<() => void> {
    if (signal.aborted) throw abortError(what);
    if (this.#taken < this.limit) this.#taken++;
    else await this.#wait(signal, what);
    return () => {
      // a limit that was lowered meanwhile is come down to
      const next = this.#taken > this.limit ? undefined : this.#queue.shift();
      if (next === undefined) this.#taken--;
      else next(); // the turn goes over to it
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
