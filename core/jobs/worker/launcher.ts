/** Runs a task in a worker thread: handles its messages, answers leases, stops it, and returns exactly one result. */
import type { PluginLog } from '../../contract/plugin.js';
import { parseOwn, ValidationError } from '../../schemas.js';
import type { FoundTarget, WorkerMessage, WorkerRequest, WorkerTask } from '../job.js';
import type { StartedWorker, ThreadStarter } from './bree.js';
import type { Leases } from './leases.js';

/** A worker is asked to end within 5 s. After this limit it is terminated, and the main thread resumes its containers. */
const stopLimit = 8000;
/** A worker that lives so long after its result has leaked a handle. */
const lingerLimit = 10_000;

export type RunResult = Extract<WorkerMessage, { type: 'result' }>;
export interface Run {
  /** Never rejects. Settles when the thread is gone and its containers are resumed. */
  readonly ended: Promise<RunResult>;
  stop(): void;
  /** Sets the run's part of its target's bandwidth. */
  throttle(bytesPerSecond: number): void;
}
export interface LauncherDeps {
  readonly scheduler: ThreadStarter;
  readonly leases: Leases;
  /** Stores what the first contact with a target showed. */
  keepFound(target: number, found: FoundTarget): Promise<void>;
  readonly log: PluginLog;
}
/** Gets the messages of a run before its result. */
export interface RunListener {
  onProgress(progress: number): void;
  /** A part of it starts over. */
  /** A container is about to be paused for so long, ms. */
  onPauseExpected(ms: number): void;
  onRetry(retry: { readonly attempt: number; readonly at: number; readonly reason: string }): void;
}
export type Launch = (task: WorkerTask, listener: RunListener) => Run;

export function createLauncher(deps: LauncherDeps): Launch {
  return (task, listener) => {
    const run = new WorkerRun(deps, task, listener);
    return { ended: run.go(), stop: () => run.stop(), throttle: (bytesPerSecond) => run.throttle(bytesPerSecond) };
  };
}

class WorkerRun {
  readonly #deps: LauncherDeps;
  readonly #task: WorkerTask;
  readonly #listener: RunListener;
  readonly #label: string;
  readonly #leased = new Map<string, { runtime: string; container: string }>();
  #worker: StartedWorker | undefined;
  #result: RunResult | undefined;
  #failure: string | undefined;
  #stopping = false;
  #killer: NodeJS.Timeout | undefined;

  constructor(deps: LauncherDeps, task: WorkerTask, listener: RunListener) {
    this.#deps = deps;
    this.#task = task;
    this.#listener = listener;
    this.#label = `${task.kind}-${task.id}`;
  }

  async go(): Promise<RunResult> {
    try {
      await new Promise<void>((resolve, reject) => this.#launch(resolve).catch(reject));
    } catch (error) {
      this.#failure ??= `${error}`;
    }
    clearTimeout(this.#killer);
    // Resume every container that this run ever leased, even those it reported as released: resuming twice is harmless.
    await Promise.all([...this.#leased.values()].map((l) => this.#deps.leases.resume(l.runtime, l.container)));
    return this.#outcome();
  }

  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#post({ type: 'stop' });
    this.#killAfter(stopLimit);
  }

  throttle(bytesPerSecond: number): void {
    this.#post({ type: 'bandwidth', bytesPerSecond });
  }

  async #launch(exit: () => void): Promise<void> {
    const error = (cause: unknown) => {
      this.#failure ??= cause instanceof Error ? cause.message : String(cause);
    };
    const message = (value: unknown) => this.#take(value);
    this.#worker = await this.#deps.scheduler.start(this.#label, { task: this.#task }, { message, error, exit });
    if (this.#stopping) this.#post({ type: 'stop' });
  }

  #outcome(): RunResult {
    if (this.#result) return this.#result;
    if (this.#stopping && this.#failure === undefined) return { type: 'result', result: -2 };
    const message = this.#failure ?? 'the worker ended without a result';
    this.#deps.log('error', `${this.#label}: ${message}`);
    return { type: 'result', result: -1, error: { code: 'crashed', message } };
  }

  #post(request: WorkerRequest): void {
    this.#worker?.post(request);
  }

  #killAfter(limit: number): void {
    clearTimeout(this.#killer);
    this.#killer = setTimeout(() => {
      this.#deps.log('warn', `${this.#label}: the worker did not end by itself and was terminated`);
      this.#worker?.terminate();
    }, limit);
  }

  #take(given: unknown): void {
    const value = this.#parse(given);
    if (value === undefined) return;
    if (value.type === 'progress') {
      this.#listener.onProgress(value.progress);
    } else if (value.type === 'retry') {
      this.#listener.onRetry({ attempt: value.attempt, at: value.at, reason: value.reason });
    } else if (value.type === 'pause-expected') {
      this.#listener.onPauseExpected(value.ms);
    } else if (value.type === 'lease') {
      this.#keep(value).catch((error: unknown) => this.#refuse(error));
    } else if (value.type === 'found') {
      this.#deps.keepFound(value.target, value.found).catch((error: unknown) => this.#deps.log('warn', `${this.#label}: ${error}`));
    } else if (value.type === 'release') {
      this.#release(value).catch((error: unknown) => this.#deps.log('warn', `${this.#label}: ${error}`));
    } else {
      this.#result ??= value;
      this.#killAfter(lingerLimit);
    }
  }

  /** A message that the schema refuses is a programming error. It is logged and ignored; a run without a result counts as crashed. */
  #parse(message: unknown): WorkerMessage | undefined {
    try {
      return parseOwn('worker', message);
    } catch (error) {
      if (!(error instanceof ValidationError)) throw error;
      this.#deps.log('warn', `${this.#label}: a message is ignored: ${error.message}`);
      return undefined;
    }
  }

  async #keep({ runtime, container, until }: Extract<WorkerMessage, { type: 'lease' }>): Promise<void> {
    this.#leased.set(`${runtime}/${container}`, { runtime, container });
    await this.#deps.leases.keep({ runtime, container, until });
    this.#post({ type: 'lease-kept', runtime, container, until });
  }

  async #release({ runtime, container }: Extract<WorkerMessage, { type: 'release' }>): Promise<void> {
    await this.#deps.leases.release(runtime, container);
  }

  /** Without a stored lease nothing may be paused, so the run ends. */
  #refuse(error: unknown): void {
    this.#result ??= { type: 'result', result: -1, error: { code: 'io', message: `the lease could not be kept: ${error}` } };
    this.stop();
  }
}
