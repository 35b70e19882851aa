/** Runs actions one after the other, in order of their calls. A failed action does not stop the next. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(action: () => Promise<T>): Promise<T> {
    const next = this.#last.then(action);
    this.#last = next.catch(() => undefined);
    return next;
  }
}

/** A mutex for each key. */
export class KeyedMutex<Key> {
  readonly #last = new Map<Key, Promise<void>>();

  run<T>(key: Key, action: () => Promise<T>): Promise<T> {
    const next = (this.#last.get(key) ?? Promise.resolve()).then(action);
    const settled = next.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(key, settled);
    void settled.then(() => this.#last.get(key) === settled && this.#last.delete(key));
    return next;
  }
}
