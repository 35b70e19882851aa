/** Jobs as the API sees them: puts calendar, queue, workers, leases and clock together. */
import { fileURLToPath } from 'node:url';
import type { PluginLog } from '../contract/plugin.js';
import type { Runtime } from '../contract/runtime.js';
import { BandwidthShares } from './bandwidths.js';
import { nextRun } from './calendar.js';
import { openClock } from './clock.js';
import {
  type BackupSpec,
  containerOf,
  type FoundTarget,
  JobError,
  type JobRecords,
  type JobService,
  type LeaseRecords,
  type RestoreRecord,
  type RestoreSpec,
  type WorkerEnvironment,
} from './job.js';
import { JobsOfKind, type KindDeps } from './kind.js';
import { createLauncher } from './launcher.js';
import { createLeases, type Leases } from './leases.js';
import { RemoteOrders } from './orders.js';
import { createProgressBoard } from './progress.js';
import { createQueue, type Queue } from './queue.js';
import type { RemoteTarget } from './remote.js';
import { createScheduler } from './scheduler.js';

/** The longest sleep: wall time may be set meanwhile, and timers beyond 2^31 ms fire at once. */
const longestSleep = 30_000;
/** A run that starts later than this after its time was missed, by a suspend or a clock set forward. */
const missedAfter = 60_000;

/** What the main thread knows of remote targets. */
export interface TargetDesk {
  /** undefined when it is gone. */
  get(target: number): Promise<RemoteTarget | undefined>;
  /** For a worker of this appliance to open. */
  seal(text: string, purpose: string): string;
  found(target: number, found: FoundTarget): Promise<void>;
}
export interface JobServiceDeps {
  readonly backups: JobRecords<BackupSpec>;
  readonly restores: JobRecords<RestoreSpec>;
  readonly leases: LeaseRecords;
  readonly environment: WorkerEnvironment;
  readonly targets: TargetDesk;
  /** `backup_concurrent`, read anew each time. */
  concurrent(): Promise<number>;
  /** The engine, for what workers left to do: resuming and undoing. @throws PluginError not_found */
  runtime(id: string): Pick<Runtime, 'resume' | 'undo' | 'dropUndo'>;
  clock(): number;
  /** Keeps the latest wall time seen. */
  readonly clockFile: string;
  readonly log: PluginLog;
  /** Absolute path of the compiled worker; for tests. */
  readonly workerFile?: string;
}
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
  /** Stops running jobs, waits for them at most 8 s and a little. */
  close(): Promise<void>;
  counts(): { readonly waiting: number; readonly running: number; readonly workers: number; readonly workerJobs: number };
}

export async function createJobService(deps: JobServiceDeps): Promise<RunningJobService> {
  const { log } = deps;
  const failed = (error: unknown) => log('error', `jobs: ${error}`);
  const clock = await openClock(deps.clockFile, deps.clock);
  const leases = leasesOf(deps);
  const scheduler = createScheduler(deps.workerFile ?? fileURLToPath(new URL('./worker.js', import.meta.url)));
  const queue = createQueue(deps.concurrent, failed);
  const progress = createProgressBoard(failed);
  const launch = createLauncher({ scheduler, leases, found: (target, found) => deps.targets.found(target, found), log });
  const bandwidths = new BandwidthShares(async (target) => (await deps.targets.get(target))?.spec.bandwidth_limit ?? 0);
  const { backups, restores } = jobKinds(deps, { queue, launch, bandwidths, clock, progress, log, changed: () => alarm.wake() });
  const alarm = createAlarm(async (startedAt) => {
    if (await clock.look()) await backups.reschedule();
    return startDue(backups, deps.clock(), startedAt, failed);
  }, failed);
  return {
    backups,
    restores,
    undo: (id, what) => undone({ restores: deps.restores, queue, runtime: deps.runtime }, id, what),
    targetChanged: (target) => void bandwidths.changed(target),
    progress: () => progress.all(),
    progressOf: (kind, id) => progress.of(kind, id),
    onProgress: (listener) => progress.listen(listener),
    nextRun: (at) => nextRun(at, deps.clock()),
    resumeLeases: () => leases.resumeAll(),
    start: async () => {
      for (const kind of [backups, restores]) await kind.recover();
      alarm.start(deps.clock());
    },
    close: async () => {
      queue.close();
      await alarm.stop();
      await Promise.all([backups.close(), restores.close()]);
      leases.close();
      await clock.note();
    },
    ...atQueue(deps, queue),
    counts: () => ({ ...queue.counts(), workers: scheduler.held().workers, workerJobs: scheduler.held().jobs }),
  };
}

function leasesOf({ leases, clock, log, runtime }: JobServiceDeps): Leases {
  return createLeases({ records: leases, resume: async (id, container) => runtime(id).resume(container), clock, log });
}

type Common = Omit<KindDeps<BackupSpec>, 'kind' | 'records' | 'at' | 'order' | 'place'>;

function jobKinds(deps: JobServiceDeps, common: Common) {
  const { backups, restores, environment } = deps;
  const { clock } = common;
  const orders = new RemoteOrders(deps, common.bandwidths);
  return {
    backups: new JobsOfKind<BackupSpec>({
      ...common,
      kind: 'backup',
      records: backups,
      at: (spec) => spec.at,
      place: ({ dest }) => orders.place(dest),
      order: async ({ id, spec }) => ({
        ...{ kind: 'backup', id, backup: spec, environment },
        ...(await orders.of(spec.dest)),
        ...(clock.needsNewBase(id) && { newBase: true }),
      }),
    }),
    restores: new JobsOfKind<RestoreSpec>({
      ...common,
      kind: 'restore',
      records: restores,
      at: () => undefined,
      place: ({ src }) => orders.place(src),
      order: async ({ id, spec }) => ({ kind: 'restore', id, restore: spec, environment, ...(await orders.of(spec.src)) }),
    }),
  };
}

function atQueue(deps: JobServiceDeps, queue: Queue): Quiet & Pick<JobService, 'limitChanged'> {
  return { limitChanged: () => queue.pump(), hold: () => queue.hold(), running: () => named(deps, queue.running()) };
}

/** A run's key, as `backup-1`, for a person: `backup 1 (web)`. */
async function named({ backups, restores }: JobServiceDeps, keys: readonly string[]): Promise<string[]> {
  const names = keys.map(async (key) => {
    const [kind, id] = key.split('-');
    const record = await (kind === 'backup' ? backups : restores).get(Number(id));
    return `${kind} ${id}${record ? ` (${record.spec.job_name})` : ''}`;
  });
  return Promise.all(names);
}

interface UndoDeps extends Pick<JobServiceDeps, 'restores' | 'runtime'> {
  readonly queue: Queue;
}

/** In the queue as a run of the container is, so that neither backs up or restores what the other moves. */
async function undone({ restores, queue, runtime }: UndoDeps, id: number, what: 'bring-back' | 'drop'): Promise<RestoreRecord> {
  const { spec, state } = await found(restores, id);
  const { undo } = state;
  if (!undo) throw new JobError('not_found', `restore ${id} keeps nothing that could be brought back`);
  await new Promise<void>((resolve, reject) => {
    const start = async () => {
      const engine = runtime(spec.type);
      await (what === 'drop' ? engine.dropUndo(undo.id) : engine.undo(undo.id)).then(resolve, reject);
    };
    queue.enter({ key: `undo-${id}`, container: `${spec.type}/${containerOf(spec)}`, start });
  });
  const record = await found(restores, id);
  const { undo: _gone, ...rest } = record.state;
  const after = { ...record, state: rest };
  await restores.put(after);
  return after;
}

async function found(restores: JobRecords<RestoreSpec>, id: number): Promise<RestoreRecord> {
  const record = await restores.get(id);
  if (!record) throw new JobError('not_found', `there is no restore ${id}`);
  return record;
}

/** Queues what is due, once however many times were missed; says how long nothing will be. */
async function startDue(
  backups: JobsOfKind<BackupSpec>,
  now: number,
  startedAt: number,
  failed: (error: unknown) => void,
): Promise<number> {
  let next = now + longestSleep;
  for (const { id, spec, state } of await backups.list()) {
    if (state.next_run === undefined || spec.disable || backups.isActive(id)) continue;
    if (state.next_run > now) next = Math.min(next, state.next_run);
    else {
      const missed = state.next_run < startedAt || now - state.next_run > missedAfter;
      await backups.enqueue(id, 'due', missed).catch((error: unknown) => {
        if (!(error instanceof JobError)) failed(error); // else a client has just run or deleted it
      });
    }
  }
  return next - now;
}

/** Calls `tick` again and again, after the time that it answers or when woken. */
function createAlarm(tick: (startedAt: number) => Promise<number>, failed: (error: unknown) => void) {
  let startedAt: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  let ticking: Promise<void> | undefined;
  let again = false;
  const ring = async (since: number): Promise<void> => {
    again = false;
    const sleep = await tick(since).catch((error: unknown) => {
      failed(error);
      return longestSleep;
    });
    ticking = undefined;
    if (startedAt === undefined) return;
    if (again) wake();
    else timer = setTimeout(wake, sleep);
  };
  const wake = () => {
    if (startedAt === undefined) return;
    again = true;
    clearTimeout(timer);
    ticking ??= ring(startedAt);
  };
  return {
    wake,
    start: (now: number) => {
      startedAt = now;
      wake();
    },
    stop: async () => {
      startedAt = undefined;
      clearTimeout(timer);
      await ticking;
    },
  };
}
