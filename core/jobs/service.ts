/** The job service: wires calendar, queue, workers, leases and clock together. */
import { fileURLToPath } from 'node:url';
import { confirmSources } from './confirm.js';
import type { JobServiceDeps } from './deps.js';
import { Errands } from './errands.js';
import type { BackupSpec, HistoryRow, JobKind, JobService, JobSpecs, Location, RestoreSpec } from './job.js';
import { kinds } from './kinds.js';
import { Purges } from './purge.js';
import { BandwidthShares } from './schedule/bandwidth-shares.js';
import { nextRun } from './schedule/calendar.js';
import { openClock } from './schedule/clock.js';
import { type TimedRows, withDueTimes } from './schedule/due.js';
import { createEventBus, type EventBus } from './schedule/events.js';
import { type EndedRun, noteEnd } from './schedule/history.js';
import { JobRunner } from './schedule/job-runner.js';
import { kindOf, locksOf } from './schedule/locks.js';
import { createProgressBoard, type ProgressBoard } from './schedule/progress.js';
import { createQueue, type Queue } from './schedule/queue.js';
import type { JobRunnerDeps } from './schedule/runner-deps.js';
import { createAlarm, tickOf } from './schedule/tick.js';
import { permissionsOf, takeOverRecord } from './take-over.js';
import { undoRestore } from './undo.js';
import { createThreadStarter } from './worker/bree.js';
import { createLauncher, type RunResult } from './worker/launcher.js';
import { createLeases, type Leases } from './worker/leases.js';
import { RemoteTasks } from './worker/task.js';

export interface Quiet {
  /** Holds all starts until the returned function is called. */
  hold(): () => void;
  /** Running jobs and errands in words. */
  running(): Promise<readonly string[]>;
}
export interface RunningJobService extends JobService, Quiet {
  /** Resumes every container that may have been frozen when the service died. */
  resumeLeases(): Promise<void>;
  /** Starts the calendar; call resumeLeases first. */
  start(): Promise<void>;
  /** Begins to close. Settles when clients that wait for an undo or a purge have their answers, after 8 s at most. */
  drain(): Promise<void>;
  /** Stops running jobs and waits for them, little more than 8 s. */
  close(): Promise<void>;
  counts(): { readonly waiting: number; readonly running: number; readonly workers: number; readonly workerJobs: number };
}

export async function createJobService(deps: JobServiceDeps): Promise<RunningJobService> {
  const { log } = deps;
  const failed = (error: unknown) => log('error', `jobs: ${error}`);
  const clock = await openClock(deps.clockFile, deps.clock, log);
  const leases = leasesOf(deps);
  const scheduler = createThreadStarter(deps.workerFile ?? fileURLToPath(new URL('./run/worker.js', import.meta.url)));
  const queue = createQueue(deps.concurrent, failed);
  const events = createEventBus(failed);
  const progress = createProgressBoard(events);
  const launch = createLauncher({ scheduler, leases, keepFound: (target, found) => deps.targets.keepFound(target, found), log });
  const bandwidths = new BandwidthShares(async (target) => (await deps.targets.get(target))?.spec.bandwidth_limit ?? 0);
  const remotes = new RemoteTasks(deps, bandwidths);
  const timed = withDueTimes(deps.backup);
  const common = { queue, launch, bandwidths, clock, progress, events, log, retryMs: deps.retryMs, onChange: () => alarm.wake() };
  const runners = runnersOf({ ...deps, backup: timed.rows }, remotes, common);
  const errands = new Errands(queue);
  const alarm = createAlarm(tickOf({ backups: runners.backup, due: timed.due, clock, failed }), failed);
  return {
    ...runners,
    ...watchOf(progress, events),
    history: (kind, id, range) => deps.history.list(kind, id, range),
    nextRun: (at) => nextRun(at, deps.clock()),
    resumeLeases: () => leases.resumeAll(),
    start: () => startJobs(runners, timed, () => alarm.start(deps.clock())),
    ...errandsOf(deps, remotes, runners, errands),
    ...endOf(errands, async () => {
      queue.close();
      await alarm.stop();
      await Promise.all([...Object.values(runners).map((runner) => runner.close()), errands.close()]);
      leases.close();
      await clock.note();
    }),
    ...atQueue(deps, queue, bandwidths),
    counts: () => ({ ...queue.counts(), workers: scheduler.counts().workers, workerJobs: scheduler.counts().jobs }),
  };
}

/** What runs the jobs of each kind. */
type Runners = { readonly [Name in JobKind]: JobRunner<JobSpecs[Name]> };

async function startJobs(runners: Runners, timed: TimedRows, begin: () => void): Promise<void> {
  await timed.load();
  for (const runner of Object.values(runners)) await runner.recover();
  begin();
}

function watchOf(
  progress: ProgressBoard,
  events: EventBus,
): Pick<JobService, 'progress' | 'progressOf' | 'retryOf' | 'expectedPauseOf' | 'onEvent' | 'onProgress'> {
  return {
    progress: () => progress.all(),
    progressOf: (kind, id) => progress.of(kind, id),
    retryOf: (kind, id) => progress.retryOf(kind, id),
    expectedPauseOf: (kind, id) => progress.expectedPauseOf(kind, id),
    onEvent: (listener) => events.subscribe(listener),
    onProgress: (listener) => events.subscribe((event) => event.type === 'progress' && listener(event.progress)),
  };
}

function errandsOf(
  deps: JobServiceDeps,
  remotes: RemoteTasks,
  { backup: backups, restore: restores }: Runners,
  errands: Errands,
): Pick<JobService, 'undo' | 'purge' | 'confirm' | 'takeOver'> {
  const { purge, runtime, log } = deps;
  const purges = new Purges({ backups, errands, connections: (location) => remotes.connections(location), purge, log });
  return {
    undo: (id, what) => undoRestore({ restores, errands, runtime }, id, what),
    purge: (id) => purges.purge(id),
    confirm: (id) => confirmSources(backups, id),
    takeOver: (id) => takeOverRecord(backups, id),
  };
}

function endOf(errands: Errands, close: () => Promise<void>): Pick<RunningJobService, 'drain' | 'close'> {
  let closing: Promise<void> | undefined;
  const end = () => {
    closing ??= close();
    return closing;
  };
  const drain = async () => {
    end().catch(() => undefined); // close reports it
    await errands.close();
  };
  return { drain, close: end };
}

function leasesOf({ leases, clock, log, runtime }: JobServiceDeps): Leases {
  return createLeases({ rows: leases, resume: async (id, container) => runtime(id).resume(container), clock, log });
}

type Common = Omit<JobRunnerDeps<BackupSpec>, 'kind' | 'rows' | 'at' | 'task' | 'locks' | 'onEnd' | 'onDelete'> & {
  readonly events: EventBus;
};
type Ended<Spec> = { readonly id: number; readonly spec: Spec } & Pick<EndedRun, 'began' | 'reason' | 'attempt'>;

/** The location without a restore's portfolio. */
function locationOf<Name extends JobKind>(name: Name, spec: JobSpecs[Name]): HistoryRow['location'] {
  const { target, path, profile } = kinds[name].location(spec);
  return { target, path, ...(profile !== undefined && { profile }) };
}

function runnersOf(deps: JobServiceDeps, remotes: RemoteTasks, common: Common): Runners {
  const { environment } = deps;
  const parts = <Name extends JobKind>(name: Name) => ({
    ...common,
    kind: name,
    rows: deps[name],
    at: kinds[name].at,
    onDelete: (id: number) =>
      deps.history.delete(name, id).catch((error) => deps.log('warn', `the history of ${name} ${id} is not deleted: ${error}`)),
    onEnd: async ({ id, spec, ...run }: Ended<JobSpecs[Name]>, outcome: RunResult) => {
      const about = { kind: name, job: id, job_name: spec.job_name, type: spec.type, container: kinds[name].container(spec) };
      await noteEnd(
        { ...deps, events: common.events },
        { ...about, location: locationOf(name, spec), ended: common.clock.now(), ...run },
        outcome,
      );
    },
    locks: async (spec: JobSpecs[Name]) => locksOf(kinds[name].locks, name, spec, await remotes.connections(kinds[name].location(spec))),
  });
  const shared = async (id: number, remote: Location) => ({ id, environment, ...(await remotes.of(remote)) });
  return {
    backup: new JobRunner<BackupSpec>({
      ...parts('backup'),
      task: async (id, spec) => ({
        ...{ kind: 'backup', spec: withLimit(spec, await deps.maxPauseSeconds()), ...(await shared(id, spec.dest)) },
        ...(common.clock.needsNewBase(id) && { newBase: true }),
        ...(await permissionsOf(deps.backup, id, spec)),
      }),
    }),
    restore: new JobRunner<RestoreSpec>({
      ...parts('restore'),
      task: async (id, spec) => ({ kind: 'restore', spec, ...(await shared(id, spec.src)) }),
    }),
  };
}

/** The job's own limit goes before that of the preferences. */
const withLimit = (spec: BackupSpec, max_pause_seconds: number | undefined): BackupSpec => ({
  ...(max_pause_seconds !== undefined && { max_pause_seconds }),
  ...spec,
});

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
    running: () => describeRuns(deps, queue.running()),
  };
}

/** Turns keys like `backup-1` into words: `backup 1 (web)`. */
async function describeRuns(deps: JobServiceDeps, keys: readonly string[]): Promise<string[]> {
  const names = keys.map(async (key) => {
    const [run = '', id] = key.split('-');
    const kind = kindOf(run);
    const row = kind && (await deps[kind].get(Number(id)));
    return `${run} ${id}${row ? ` (${row.spec.job_name})` : ''}`;
  });
  return Promise.all(names);
}
