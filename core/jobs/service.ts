/** Jobs as the API sees them: puts calendar, queue, workers, leases and clock together. */
import { fileURLToPath } from 'node:url';
import { confirmSources } from './confirm.js';
import type { JobServiceDeps } from './deps.js';
import { Errands } from './errands.js';
import type { BackupSpec, JobService, RestoreSpec } from './job.js';
import { Purges } from './purge.js';
import { BandwidthShares } from './schedule/bandwidth-shares.js';
import { nextRun } from './schedule/calendar.js';
import { openClock } from './schedule/clock.js';
import { type TimedRows, withDueTimes } from './schedule/due.js';
import { JobRunner, type JobRunnerDeps } from './schedule/job-runner.js';
import { backupSubject, locksOf, restoreSubject } from './schedule/locks.js';
import { createProgressBoard, type ProgressBoard } from './schedule/progress.js';
import { createQueue, type Queue } from './schedule/queue.js';
import { createAlarm, tickOf } from './schedule/tick.js';
import { permissionsOf, takeOverRecord } from './take-over.js';
import { undoRestore } from './undo.js';
import { createScheduler } from './worker/bree.js';
import { createLauncher } from './worker/launcher.js';
import { createLeases, type Leases } from './worker/leases.js';
import { RemoteTasks } from './worker/task.js';

export interface Quiet {
  /** No job starts until the returned function is called. */
  hold(): () => void;
  /** What runs, in words. */
  running(): Promise<readonly string[]>;
}
export interface RunningJobService extends JobService, Quiet {
  /** Lets everything go on that may have been frozen when the service died. */
  resumeLeases(): Promise<void>;
  /** Takes the jobs on, after resumeLeases. */
  start(): Promise<void>;
  /** Begins to close. Settles when whoever waits for an undo or a purge has an answer, and after 8 s. */
  drain(): Promise<void>;
  /** Stops running jobs, waits for them at most 8 s and a little. */
  close(): Promise<void>;
  counts(): { readonly waiting: number; readonly running: number; readonly workers: number; readonly workerJobs: number };
}

export async function createJobService(deps: JobServiceDeps): Promise<RunningJobService> {
  const { log } = deps;
  const failed = (error: unknown) => log('error', `jobs: ${error}`);
  const clock = await openClock(deps.clockFile, deps.clock, log);
  const leases = leasesOf(deps);
  const scheduler = createScheduler(deps.workerFile ?? fileURLToPath(new URL('./run/worker.js', import.meta.url)));
  const queue = createQueue(deps.concurrent, failed);
  const progress = createProgressBoard(failed);
  const launch = createLauncher({ scheduler, leases, keepFound: (target, found) => deps.targets.keepFound(target, found), log });
  const bandwidths = new BandwidthShares(async (target) => (await deps.targets.get(target))?.spec.bandwidth_limit ?? 0);
  const orders = new RemoteTasks(deps, bandwidths);
  const timed = withDueTimes(deps.backups);
  const common = { queue, launch, bandwidths, clock, progress, log, onChange: () => alarm.wake() };
  const kinds = jobKinds({ ...deps, backups: timed.rows }, orders, common);
  const errands = new Errands(queue);
  const alarm = createAlarm(tickOf({ backups: kinds.backups, due: timed.due, clock, failed }), failed);
  return {
    ...kinds,
    ...progressOf(progress),
    nextRun: (at) => nextRun(at, deps.clock()),
    resumeLeases: () => leases.resumeAll(),
    start: () => startJobs({ ...kinds, timed }, () => alarm.start(deps.clock())),
    ...errandsOf(deps, orders, { ...kinds, errands }),
    ...endOf(errands, async () => {
      queue.close();
      await alarm.stop();
      await Promise.all([kinds.backups.close(), kinds.restores.close(), errands.close()]);
      leases.close();
      await clock.note();
    }),
    ...atQueue(deps, queue, bandwidths),
    counts: () => ({ ...queue.counts(), workers: scheduler.counts().workers, workerJobs: scheduler.counts().jobs }),
  };
}

interface Starting {
  readonly timed: TimedRows;
  readonly backups: JobRunner<BackupSpec>;
  readonly restores: JobRunner<RestoreSpec>;
}

async function startJobs({ timed, backups, restores }: Starting, begin: () => void): Promise<void> {
  await timed.load();
  await backups.recover();
  await restores.recover();
  begin();
}

function progressOf(progress: ProgressBoard): Pick<JobService, 'progress' | 'progressOf' | 'onProgress'> {
  return {
    progress: () => progress.all(),
    progressOf: (kind, id) => progress.of(kind, id),
    onProgress: (listener) => progress.listen(listener),
  };
}

interface ErrandParts {
  readonly backups: JobRunner<BackupSpec>;
  readonly restores: JobRunner<RestoreSpec>;
  readonly errands: Errands;
}

function errandsOf(
  deps: JobServiceDeps,
  orders: RemoteTasks,
  parts: ErrandParts,
): Pick<JobService, 'undo' | 'purge' | 'confirm' | 'takeOver'> {
  const { purge, runtime, log } = deps;
  const purges = new Purges({ ...parts, connections: (place) => orders.connections(place), purge, log });
  return {
    undo: (id, what) => undoRestore({ ...parts, runtime }, id, what),
    purge: (id) => purges.purge(id),
    confirm: (id) => confirmSources(parts.backups, id),
    takeOver: (id) => takeOverRecord(parts.backups, id),
  };
}

function endOf(errands: Errands, close: () => Promise<void>): Pick<RunningJobService, 'drain' | 'close'> {
  let closing: Promise<void> | undefined;
  const end = () => {
    closing ??= close();
    return closing;
  };
  const drain = async () => {
    end().catch(() => undefined); // told by close
    await errands.close();
  };
  return { drain, close: end };
}

function leasesOf({ leases, clock, log, runtime }: JobServiceDeps): Leases {
  return createLeases({ rows: leases, resume: async (id, container) => runtime(id).resume(container), clock, log });
}

type Common = Omit<JobRunnerDeps<BackupSpec>, 'kind' | 'rows' | 'at' | 'order' | 'locks'>;

function jobKinds(deps: JobServiceDeps, orders: RemoteTasks, common: Common) {
  const { backups, restores, environment } = deps;
  const { clock } = common;
  return {
    backups: new JobRunner<BackupSpec>({
      ...common,
      kind: 'backup',
      rows: backups,
      at: (spec) => spec.at,
      locks: async (spec) => locksOf('backup', backupSubject(spec), await orders.connections(spec.dest)),
      order: async (id, spec) => ({
        ...{ kind: 'backup', id, backup: spec, environment },
        ...(await orders.of(spec.dest)),
        ...(clock.needsNewBase(id) && { newBase: true }),
        ...(await permissionsOf(backups, id, spec)),
      }),
    }),
    restores: new JobRunner<RestoreSpec>({
      ...common,
      kind: 'restore',
      rows: restores,
      at: () => undefined,
      locks: async (spec) => locksOf('restore', restoreSubject(spec), await orders.connections(spec.src)),
      order: async (id, spec) => ({ kind: 'restore', id, restore: spec, environment, ...(await orders.of(spec.src)) }),
    }),
  };
}

function atQueue(
  deps: JobServiceDeps,
  queue: Queue,
  bandwidths: BandwidthShares,
): Quiet & Pick<JobService, 'limitChanged' | 'targetChanged'> {
  return {
    limitChanged: () => queue.pump(),
    targetChanged: (target) => {
      void bandwidths.share(target);
      queue.pump();
    },
    hold: () => queue.hold(),
    running: () => named(deps, queue.running()),
  };
}

/** A run's key, as `backup-1`, for a person: `backup 1 (web)`. */
async function named({ backups, restores }: JobServiceDeps, keys: readonly string[]): Promise<string[]> {
  const names = keys.map(async (key) => {
    const [kind, id] = key.split('-');
    const record = await (kind === 'backup' || kind === 'purge' ? backups : restores).get(Number(id));
    return `${kind} ${id}${record ? ` (${record.spec.job_name})` : ''}`;
  });
  return Promise.all(names);
}
