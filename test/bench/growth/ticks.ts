/** Time in which the calendar looks for due jobs among many. It uses the service's own parts, and a queue that starts no job. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BackupSpec, JobRows } from '../../../core/jobs/job.js';
import { BandwidthShares } from '../../../core/jobs/schedule/bandwidth-shares.js';
import { openClock, type WallClock } from '../../../core/jobs/schedule/clock.js';
import { withDueTimes } from '../../../core/jobs/schedule/due.js';
import { JobRunner } from '../../../core/jobs/schedule/job-runner.js';
import { createProgressBoard } from '../../../core/jobs/schedule/progress.js';
import { createQueue } from '../../../core/jobs/schedule/queue.js';
import { tickOf } from '../../../core/jobs/schedule/tick.js';
import { parse } from '../../../core/schemas.js';
import { openStore } from '../../../core/store/index.js';
import { type Spread, spread } from '../spread.js';
import { job } from './many-jobs.js';

export interface TickFigures {
  /** Nothing is due. */
  readonly idle: Spread;
  /** One job is due, and is stored as waiting. */
  readonly one: Spread;
}

const atOnce = 200;
const hour = 3_600_000;

export async function measureTicks(work: string, jobs: number): Promise<TickFigures> {
  const folder = join(work, 'ticks');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const store = await openStore(folder);
  const began = Date.now();
  let now = began;
  try {
    await fill(store.backup, jobs, began + hour);
    const clock = await openClock(join(folder, 'clock.json'), () => now);
    const { backups, tick, load } = await heldJobs(store.backup, clock);
    await load();
    const idle = await spread(() => tick(began));
    const one = await spread(
      async () => void (await tick(began)),
      async (n) => {
        if (n > 0) await backups.stop(n); // the job of the round before
        now = began + hour + n * 1000; // the due time of the next job
      },
    );
    return { idle, one };
  } finally {
    await store.close();
  }
}

/** Each job is due a second after the one before. */
async function fill(backups: JobRows<BackupSpec>, jobs: number, first: number): Promise<void> {
  let next = 0;
  const lane = async () => {
    for (let n = next++; n < jobs; n = next++) {
      await backups.create(parse('backup', job(n)), { code: 'scheduled', next_run: first + n * 1000 });
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}

async function heldJobs(kept: JobRows<BackupSpec>, clock: WallClock) {
  const failed = (error: unknown) => {
    throw error;
  };
  const { rows, due, load } = withDueTimes(kept);
  const queue = createQueue(async () => 1, failed);
  queue.hold();
  const events = { publish: () => undefined };
  const none = () => failed(new Error('nothing is to start'));
  const backups = new JobRunner<BackupSpec>({
    ...{ kind: 'backup', rows, at: (spec) => spec.at, task: async () => none(), locks: async () => [] },
    ...{ queue, launch: none, clock, progress: createProgressBoard(events), bandwidths: new BandwidthShares(async () => 0) },
    ...{
      events,
      retryMs: [],
      log: () => undefined,
      onChange: () => undefined,
      onEnd: async () => undefined,
      onDelete: async () => undefined,
    },
  });
  return { backups, load, tick: tickOf({ backups, due, clock, failed }) };
}
