/** Progress of running jobs: in memory only, never backwards, -1 as the end. */
import type { JobKind, ProgressEvent } from '../job.js';

export interface ProgressBoard {
  begin(kind: JobKind, id: number): void;
  set(kind: JobKind, id: number, progress: number): void;
  end(kind: JobKind, id: number): void;
  all(): readonly ProgressEvent[];
  of(kind: JobKind, id: number): number | undefined;
  listen(listener: (event: ProgressEvent) => void): () => void;
}

export function createProgressBoard(failed: (error: unknown) => void): ProgressBoard {
  const running = new Map<string, ProgressEvent>();
  const listeners = new Set<(event: ProgressEvent) => void>();
  const key = (kind: JobKind, id: number) => `${kind}-${id}`;
  const tell = (event: ProgressEvent) => {
    for (const listener of listeners) {
      try {
        listener(event);
      } catch (error) {
        failed(error); // a client that went away must not stop a backup
      }
    }
  };
  return {
    begin: (type, id) => void running.set(key(type, id), { id, type, progress: -1 }),
    set: (type, id, value) => {
      const progress = Math.min(99, Math.floor(value));
      const before = running.get(key(type, id));
      if (!before || progress <= before.progress) return;
      const event = { id, type, progress };
      running.set(key(type, id), event);
      tell(event);
    },
    end: (type, id) => {
      if (running.delete(key(type, id))) tell({ id, type, progress: -1 });
    },
    all: () => [...running.values()],
    of: (type, id) => running.get(key(type, id))?.progress,
    listen: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
