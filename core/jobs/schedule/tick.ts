/** Who looks for due jobs: at their times, and when something has changed. */

import { type BackupSpec, JobError } from '../job.js';
import { nextRun } from './calendar.js';
import type { WallClock } from './clock.js';
import type { DueTimes } from './due.js';
import type { JobRunner } from './job-runner.js';

/** The longest sleep: wall time may be set meanwhile, and timers beyond 2^31 ms fire at once. */
const longestSleep = 30_000;
/** A run that starts later than this after its time was missed, by a suspend or a clock set forward. */
const missedAfter = 60_000;

interface Watched {
  readonly backups: JobRunner<BackupSpec>;
  readonly due: DueTimes;
  readonly clock: WallClock;
  failed(error: unknown): void;
}

/** One look: queues what is due. @returns given the time of the start, how long nothing will be due, ms */
export function tickOf({ backups, due, clock, failed }: Watched): (startedAt: number) => Promise<number> {
  return async (startedAt) => {
    if (await clock.look()) await reschedule(backups, clock.now());
    return startDue(backups, due, { now: clock.now(), startedAt, failed });
  };
}

/** Next runs anew, after the clock was set back. One that is being deleted needs none. */
async function reschedule(backups: JobRunner<BackupSpec>, now: number): Promise<void> {
  for (const { id, spec } of await backups.list()) {
    if (!spec.disable && nextRun(spec.at, now) !== undefined) await backups.update(id, spec).catch(unlessBusy);
  }
}

function unlessBusy(error: unknown): void {
  if (!(error instanceof JobError)) throw error;
}

/** Queues what is due, once however many times were missed; says how long nothing will be. */
async function startDue(backups: JobRunner<BackupSpec>, due: DueTimes, { now, startedAt, failed }: Tick): Promise<number> {
  const queued = due.until(now).map(async ([id, time]) => {
    if (backups.isActive(id)) return;
    const missed = time < startedAt || now - time > missedAfter;
    await backups.enqueue(id, 'due', { missed, when: 'late' }).catch(unlessBusy).catch(failed); // a client may just have run or deleted it
  });
  await Promise.all(queued); // together: their writes share a sync
  return Math.min(longestSleep, (due.after(now) ?? Number.POSITIVE_INFINITY) - now);
}

interface Tick {
  readonly now: number;
  readonly startedAt: number;
  failed(error: unknown): void;
}

/** Calls `tick` again and again, after the time that it answers or when woken. */
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
