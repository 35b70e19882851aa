/** The bus of the main thread: everything that happens to jobs passes here once, and each listener takes what it wants. */
import type { JobsEvent } from '../job.js';

export interface EventBus {
  publish(event: JobsEvent): void;
  /** @returns a function that ends it */
  subscribe(listener: (event: JobsEvent) => void): () => void;
}

/** @param failed is told of a listener that throws: a client that went away must not stop a backup */
export function createEventBus(failed: (error: unknown) => void): EventBus {
  const listeners = new Set<(event: JobsEvent) => void>();
  return {
    publish: (event) => {
      for (const listener of listeners) {
        try {
          listener(event);
        } catch (error) {
          failed(error);
        }
      }
    },
    subscribe: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
