/** What the jobs are given: rows, engines, targets and the clock. Types only. */
import type { PluginLog } from '../contract/plugin.js';
import type { Runtime } from '../contract/runtime.js';
import type { RemoteTarget } from '../targets/remote.js';
import type { FoundTarget, HistoryRows, LeaseRows, RowsByKind, WorkerEnvironment } from './job.js';
import type { PurgeDeps } from './purge.js';

/** What the main thread knows of remote targets. */
export interface TargetRegistry {
  /** undefined when it is gone. */
  get(target: number): Promise<RemoteTarget | undefined>;
  /** For a worker of this appliance to open. */
  seal(text: string, purpose: string): string;
  keepFound(target: number, found: FoundTarget): Promise<void>;
}
/** Beside the rows of each kind of job, by its name. */
export interface JobServiceDeps extends RowsByKind {
  readonly leases: LeaseRows;
  readonly history: HistoryRows;
  /** Waits before each further attempt of a backup that failed, ms. */
  readonly retryMs: readonly number[];
  readonly environment: WorkerEnvironment;
  readonly targets: TargetRegistry;
  /** `backup_concurrent`, read anew each time. */
  concurrent(): Promise<number>;
  /** The engine, for what workers left to do: resuming and undoing. @throws PluginError not_found */
  runtime(id: string): Pick<Runtime, 'resume' | 'undo' | 'dropUndo'>;
  readonly purge: PurgeDeps['purge'];
  clock(): number;
  /** Keeps the latest wall time seen. */
  readonly clockFile: string;
  readonly log: PluginLog;
  /** Absolute path of the compiled worker; for tests. */
  readonly workerFile?: string;
}
