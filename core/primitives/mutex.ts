/** One thing at a time under each key, in the order in which they were asked for. */
export class KeyedMutex<Key> {
  readonly #last = new Map<Key, Promise<void>>();

  run<T>(key: Key, action: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(key) ?? Promise.resolve()).then(action);
    const settled = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(key, settled);
    void settled.then(() => this.#last.get(key) === settled && this.#last.delete(key));
    return turn;
  }
}
