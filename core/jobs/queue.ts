/** Who may run now: at most `limit` runs, one per container, first come first served. */

export interface QueueEntry {
  readonly key: string;
  /** Runs with the same container wait for each other; later ones for other containers may pass. */
  readonly container: string;
  /** At most so many runs at a time use this place. */
  readonly place?: { readonly key: string; readonly most: number };
  /** Runs to its end; must not reject. */
  start(): Promise<void>;
}

export interface Queue {
  enter(entry: QueueEntry): void;
  /** Takes a waiting entry out; false when it is not waiting (any more). */
  leave(key: string): boolean;
  /** Looks again, for a limit that was raised. */
  pump(): void;
  /** Nothing starts any more. */
  close(): void;
  /** Nothing starts until the returned function is called; more than one may hold it. */
  hold(): () => void;
  /** Keys of what runs. */
  running(): readonly string[];
  counts(): { readonly waiting: number; readonly running: number };
}

export function createQueue(limit: () => Promise<number>, failed: (error: unknown) => void): Queue {
  return new FairQueue(limit, failed);
}

class FairQueue implements Queue {
  readonly #waiting: QueueEntry[] = [];
  readonly #busy = new Set<string>();
  readonly #places: string[] = []; // one a run
  readonly #runs = new Set<string>();
  readonly #holds = new Set<symbol>();
  #closed = false;
  #turn = Promise.resolve(); // the limit is read asynchronously: one look at a time

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
    if (at >= 0) this.#waiting.splice(at, 1);
    return at >= 0;
  }

  pump(): void {
    this.#turn = this.#turn.then(() => this.#look()).catch(this.failed);
  }

  close(): void {
    this.#closed = true;
  }

  counts() {
    return { waiting: this.#waiting.length, running: this.#runs.size };
  }

  running(): readonly string[] {
    return [...this.#runs];
  }

  hold(): () => void {
    const mine = Symbol();
    this.#holds.add(mine);
    return () => {
      this.#holds.delete(mine);
      this.pump();
    };
  }

  async #look(): Promise<void> {
    const most = Math.max(1, await this.limit());
    while (!this.#closed && this.#holds.size === 0 && this.#runs.size < most) {
      const next = this.#waiting.find((entry) => this.#mayStart(entry));
      if (!next) return;
      this.#start(next);
    }
  }

  #mayStart({ container, place }: QueueEntry): boolean {
    if (this.#busy.has(container)) return false;
    return place === undefined || this.#places.filter((key) => key === place.key).length < place.most;
  }

  #start(entry: QueueEntry): void {
    this.leave(entry.key);
    this.#busy.add(entry.container);
    if (entry.place) this.#places.push(entry.place.key);
    this.#runs.add(entry.key);
    const ended = () => {
      this.#busy.delete(entry.container);
      if (entry.place) this.#places.splice(this.#places.indexOf(entry.place.key), 1);
      this.#runs.delete(entry.key);
      this.pump();
    };
    entry.start().catch(this.failed).finally(ended);
  }
}
