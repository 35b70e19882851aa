/** Who may run now: at most `limit` runs, one per container, first come first served. */

export interface QueueEntry {
  readonly key: string;
  /** Runs with the same container wait for each other; later ones for other containers may pass. */
  readonly container: string;
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
  counts(): { readonly waiting: number; readonly running: number };
}

export function createQueue(limit: () => Promise<number>, failed: (error: unknown) => void): Queue {
  const waiting: QueueEntry[] = [];
  const busy = new Set<string>();
  let running = 0;
  let closed = false;
  let turn = Promise.resolve(); // the limit is read asynchronously: one look at a time

  const start = (entry: QueueEntry) => {
    waiting.splice(waiting.indexOf(entry), 1);
    busy.add(entry.container);
    running++;
    const ended = () => {
      busy.delete(entry.container);
      running--;
      pump();
    };
    entry.start().catch(failed).finally(ended);
  };
  const look = async () => {
    const most = Math.max(1, await limit());
    while (!closed && running < most) {
      const next = waiting.find(({ container }) => !busy.has(container));
      if (!next) return;
      start(next);
    }
  };
  const pump = () => {
    turn = turn.then(look).catch(failed);
  };
  return {
    enter: (entry) => {
      waiting.push(entry);
      pump();
    },
    leave: (key) => {
      const at = waiting.findIndex((entry) => entry.key === key);
      if (at >= 0) waiting.splice(at, 1);
      return at >= 0;
    },
    pump,
    close: () => {
      closed = true;
    },
    counts: () => ({ waiting: waiting.length, running }),
  };
}
