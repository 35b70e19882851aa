/** The alarm that queues due jobs: at their times, and after a change. */

import { ServiceError } from '../../primitives/service-error.js';
import type { BackupSpec } from '../job.js';
import { nextRun } from './calendar.js';
import type { WallClock } from './clock.js';
import type { DueTimes } from './due.js';
import type { JobRunner } from './job-runner.js';

/** Longest sleep, ms: wall time may be set meanwhile, and a timer beyond 2^31 ms fires at once. */
const longestSleep = 30_000;
/** A run that starts later than this was missed, by a suspend or a clock that was set forward. */
const missedAfter = 60_000;

interface Watched {
  readonly backups: JobRunner<BackupSpec>;
  readonly due: DueTimes;
  readonly clock: WallClock;
  failed(error: unknown): void;
}

/** @returns a function that queues the due jobs, and returns how long no job will be due, ms */
export function tickOf({ backups, due, clock, failed }: Watched): (startedAt: number) => Promise<number> {
  return async (startedAt) => {
    if (await clock.look()) await reschedule(backups, clock.now());
    return startDue(backups, due, { now: clock.now(), startedAt, failed });
  };
}

/** Computes next runs again after the clock was set back. A job that is being deleted is skipped. */
async function reschedule(backups: JobRunner<BackupSpec>, now: number): Promise<void> {
  for (const { id, spec } of await backups.list()) {
    if (!spec.disable && nextRun(spec.at, now) !== undefined) await backups.update(id, spec).catch(unlessBusy);
  }
}

function unlessBusy(error: unknown): void {
  if (!(error instanceof ServiceError)) throw error;
}

/** Queues each due job once, however many times were missed. @returns how long no job will be due, ms */
async function startDue(backups: JobRunner<BackupSpec>, due: DueTimes, { now, startedAt, failed }: Tick): Promise<number> {
  const queued = due.until(now).map(async ([id, time]) => {
    if (backups.isActive(id)) return;
    const missed = time < startedAt || now - time > missedAfter;
    await backups.enqueue(id, 'due', { missed, when: 'late' }).catch(unlessBusy).catch(failed); // a client may have run or deleted it meanwhile
  });
  await Promise.all(queued); // together, so that their writes share an fsync
  return Math.min(longestSleep, (due.after(now) ?? Number.POSITIVE_INFINITY) - now);
}

interface Tick {
  readonly now: number;
  readonly startedAt: number;
  failed(error: unknown): void;
}

/** Calls `tick` after the time that it returned, or when woken. */
export function createAlarm(tick: (startedAt: number) => Promise<number>, failed: (error: unknown) => void) {
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
