/** Dependencies of the job service: rows, engines, targets and the clock. Types only. */
import type { PluginLog } from '../contract/plugin.js';
import type { Runtime } from '../contract/runtime.js';
import type { RemoteTarget } from '../targets/remote.js';
import type { FoundTarget, HistoryRows, LeaseRows, RowsByKind, WorkerEnvironment } from './job.js';
import type { PurgeDeps } from './purge.js';

/** Remote targets as the main thread stores them. */
export interface TargetRegistry {
  /** @returns undefined for a target that was deleted */
  get(target: number): Promise<RemoteTarget | undefined>;
  /** Seals a text so that only a worker of this appliance can open it. */
  seal(text: string, purpose: string): string;
  keepFound(target: number, found: FoundTarget): Promise<void>;
}
/** The rows of each kind of job stand under the kind's name. */
export interface JobServiceDeps extends RowsByKind {
  readonly leases: LeaseRows;
  readonly history: HistoryRows;
  /** Waits before each further attempt of a backup that failed, ms. */
  readonly retryMs: readonly number[];
  readonly environment: WorkerEnvironment;
  readonly targets: TargetRegistry;
  /** Reads `backup_concurrent` at each call. */
  concurrent(): Promise<number>;
  /** Longest pause of a job that says nothing about it; undefined for no limit. */
  maxPauseSeconds(): Promise<number | undefined>;
  /** The engine that resumes containers and undoes restores in the main thread. @throws PluginError not_found */
  runtime(id: string): Pick<Runtime, 'resume' | 'undo' | 'dropUndo'>;
  readonly purge: PurgeDeps['purge'];
  clock(): number;
  /** Stores the latest wall time seen. */
  readonly clockFile: string;
  readonly log: PluginLog;
  /** Absolute path of the compiled worker; for tests. */
  readonly workerFile?: string;
}
