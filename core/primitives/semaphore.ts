import { PluginError } from '../contract/index.js';

/** A counting semaphore, first come first served. */
export class Semaphore {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(most: number) {
    this.#free = Math.max(1, most);
  }

  /** Waits for a permit. @returns a function that gives it back; further calls do nothing @throws the signal's reason */
  async take(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else await this.#wait(signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    };
  }

  /** Runs the action with a permit. @throws the signal's reason, if it aborts before */
  async run<T>(signal: AbortSignal, action: () => Promise<T>): Promise<T> {
    const free = await this.take(signal);
    try {
      return await action();
    } finally {
      free();
    }
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal.removeEventListener('abort', stop);
        resolve();
      };
      const stop = () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1);
        reject(signal.reason);
      };
      this.#waiting.push(go);
      signal.addEventListener('abort', stop, { once: true });
    });
  }
}

/** Runs an action that a client waits for. @throws PluginError unavailable when others take too long */
export async function queued<T>(limit: Semaphore, signal: AbortSignal, action: () => Promise<T>): Promise<T> {
  const free = await limit.take(signal).catch((cause: unknown) => {
    throw new PluginError('unavailable', 'other requests are read first; ask again', { retryable: true, cause });
  });
  try {
    return await action();
  } finally {
    free();
  }
}
