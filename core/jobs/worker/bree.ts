/**
 * Starts worker threads through Bree; the only file that names it. Bree's calendars and its stop are not used:
 * they skip days and can hang (docs: traps). Here it only launches, each run under a name of its own.
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
  /** The last resort: children of a terminated worker are killed, not asked. */
  terminate(): void;
}
export interface ThreadStarter {
  start(label: string, data: object, handlers: WorkerHandlers): Promise<StartedWorker>;
  /** Jobs and threads that Bree still holds; both 0 when nothing runs. */
  counts(): { readonly jobs: number; readonly workers: number };
}

/** A small young generation is collected often, and the buffers that streamed through go with it: a worker's peak is some
 *  40 MiB lower, at no cost that could be measured. Three times the semi-space of the service's first line (core/cli/main.ts).
 *  A run's own data is far below the other limit. */
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
    errorHandler: () => undefined, // a crash calls it twice; our own listeners tell it once
  });
  // Not the worker's own exit event: Bree takes its listeners away when a worker says 'done'.
  bree.on('worker deleted', (name: string) => {
    exits.get(name)?.();
    exits.delete(name);
  });
  const start = async (label: string, data: object, handlers: WorkerHandlers): Promise<StartedWorker> => {
    // Unique: a second run of a name that is still known only warns and never starts.
    const name = `${label}-${randomUUID()}`;
    // execArgv: loaders of the main thread (a test runner's) cost half a second a run and belong to nobody here.
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
