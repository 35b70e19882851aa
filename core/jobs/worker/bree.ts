/**
 * Starts worker threads through Bree; no other file imports it. Bree's calendar and its stop are not used: the calendar skips days
 * at changes of daylight saving time, and the stop can hang. Each run is a Bree job of its own name.
 */
import { randomUUID } from 'node:crypto';
import Bree from 'bree';

export interface WorkerHandlers {
  message(message: unknown): void;
  error(error: unknown): void;
  /** The thread is gone; called once. */
  exit(): void;
}
export interface StartedWorker {
  post(message: object): void;
  /** Terminates the thread; its children are killed, not asked. */
  terminate(): void;
}
export interface ThreadStarter {
  start(label: string, data: object, handlers: WorkerHandlers): Promise<StartedWorker>;
  /** Jobs and threads that Bree holds; both are 0 when nothing runs. */
  counts(): { readonly jobs: number; readonly workers: number };
}

/** A small young generation is collected often, and the streamed buffers with it: a worker's peak memory is some 40 MiB lower, at no
 *  measurable cost. It is three times the semi-space of the service's first line (core/cli/main.ts). A run's own data stays far below
 *  the other limit. */
const resourceLimits = { maxYoungGenerationSizeMb: 3, maxOldGenerationSizeMb: 256 };

/** @param file absolute path of a compiled module */
export function createThreadStarter(file: string): ThreadStarter {
  const exits = new Map<string, () => void>();
  const bree = new Bree({
    root: false,
    doRootCheck: false,
    jobs: [],
    logger: false,
    removeCompleted: true, // else the list of jobs grows by one a run
    errorHandler: () => undefined, // Bree calls it twice for a crash; the worker's own error event comes once
  });
  // Not the worker's exit event: Bree removes its listeners when a worker posts 'done'.
  bree.on('worker deleted', (name: string) => {
    exits.get(name)?.();
    exits.delete(name);
  });
  const start = async (label: string, data: object, handlers: WorkerHandlers): Promise<StartedWorker> => {
    // Bree never starts a second job of a name that it still knows; it only warns.
    const name = `${label}-${randomUUID()}`;
    // execArgv is empty: loaders of the main thread (a test runner's) would cost half a second a run.
    await bree.add({ name, path: file, worker: { workerData: data, execArgv: [], resourceLimits } });
    exits.set(name, handlers.exit);
    await bree.run(name).catch(async (error: unknown) => {
      exits.delete(name);
      await bree.remove(name);
      throw error;
    });
    const worker = bree.workers.get(name);
    if (!worker) throw new Error(`the worker of ${label} did not start`);
    worker.on('message', handlers.message);
    worker.on('messageerror', handlers.error);
    worker.on('error', handlers.error);
    return {
      post: (message) => worker.postMessage(message),
      terminate: () => void worker.terminate(),
    };
  };
  return { start, counts: () => ({ jobs: bree.config.jobs.length, workers: bree.workers.size }) };
}
