/** The event bus of the main thread. Every event of a job is published once; each listener picks what it needs. */
import type { JobsEvent } from '../job.js';

export interface EventBus {
  publish(event: JobsEvent): void;
  /** @returns a function that unsubscribes */
  subscribe(listener: (event: JobsEvent) => void): () => void;
}

/** @param failed gets the error of a listener that throws, so that a client's fault cannot stop a backup */
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
