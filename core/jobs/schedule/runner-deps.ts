/** Dependencies of a JobRunner. Types only. */
import type { PluginLog } from '../../contract/plugin.js';
import type { At, JobKind, JobRows, WorkerTask } from '../job.js';
import type { Launch, RunResult } from '../worker/launcher.js';
import type { Recorded } from './active-run.js';
import type { BandwidthShares } from './bandwidth-shares.js';
import type { WallClock } from './clock.js';
import type { EventBus } from './events.js';
import type { EndedRun } from './history.js';
import type { Lock } from './locks.js';
import type { ProgressBoard } from './progress.js';
import type { Queue } from './queue.js';

/** Settings that every kind has. */
export interface AnySpec extends Recorded {
  readonly disable: boolean;
}
export interface JobRunnerDeps<Spec extends AnySpec> {
  readonly kind: JobKind;
  readonly rows: JobRows<Spec>;
  /** Undefined for a job without a calendar: it runs once, at once. */
  at(spec: Spec): At | undefined;
  /** @throws PluginError not_found: its target is gone */
  task(id: number, spec: Spec): Promise<WorkerTask>;
  /** The locks of a run. */
  locks(spec: Spec): Promise<readonly Lock[]>;
  readonly bandwidths: BandwidthShares;
  readonly queue: Queue;
  readonly launch: Launch;
  readonly clock: WallClock;
  readonly progress: ProgressBoard;
  readonly log: PluginLog;
  /** Waits before each further attempt of a run that failed, ms. */
  readonly retryMs: readonly number[];
  readonly events: Pick<EventBus, 'publish'>;
  /** Called before the row shows that a run has ended. Must not reject. */
  onEnd(
    run: { readonly id: number; readonly spec: Spec; readonly began: number } & Pick<EndedRun, 'reason' | 'attempt'>,
    outcome: RunResult,
  ): Promise<void>;
  /** Called after the row was deleted. Must not reject. */
  onDelete(id: number): Promise<void>;
  /** Called when a due time may have changed. */
  onChange(): void;
}
