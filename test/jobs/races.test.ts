/** A thousand random changes of jobs that wait and run. Two runs that exclude each other never go on together, and each runs
 *  with the locks it took. Only the threads are replaced: their work ends after a few turns of the event loop. */
import { setImmediate as nextTick } from 'node:timers/promises';
import t from 'tap';
import { Errands } from '../../core/jobs/errands.js';
import type { BackupSpec, JobRows, RestoreSpec, WorkerTask } from '../../core/jobs/job.js';
import { kinds } from '../../core/jobs/kinds.js';
import { Purges } from '../../core/jobs/purge.js';
import { BandwidthShares } from '../../core/jobs/schedule/bandwidth-shares.js';
import type { WallClock } from '../../core/jobs/schedule/clock.js';
import { JobRunner } from '../../core/jobs/schedule/job-runner.js';
import { locksOf } from '../../core/jobs/schedule/locks.js';
import { createProgressBoard } from '../../core/jobs/schedule/progress.js';
import { createQueue } from '../../core/jobs/schedule/queue.js';
import type { RunResult } from '../../core/jobs/worker/launcher.js';
import { ServiceError } from '../../core/primitives/service-error.js';
import { seededRandom } from '../system/crash/random.js';
import { backup, memory, restore } from './service-bench.js';

const tries = 1000;
const points = seededRandom();
t.comment(`seed ${points.seed}`);
const random = (below: number): number => Math.floor(points.next() * below);
const one = <T>(list: readonly T[]): T => {
  const chosen = points.pick(list);
  if (chosen === undefined) throw new Error('an empty list');
  return chosen;
};

/** What goes on: a container, or none, and a record that is written or only read. */
interface Going {
  readonly what: string;
  readonly container?: string;
  readonly record: string;
  readonly writes: boolean;
}

/** Tells of each pair that excludes each other. */
class Watch {
  readonly #going = new Set<Going>();
  readonly clashes: string[] = [];
  begun = 0;
  /** The most at a time: without any there is nothing to clash. */
  most = 0;

  async during(going: Going): Promise<void> {
    for (const other of this.#going) {
      const same = going.container !== undefined && going.container === other.container;
      if (same || (going.record === other.record && (going.writes || other.writes)))
        this.clashes.push(`${going.what} beside ${other.what}: ${JSON.stringify([going, other])}`);
    }
    this.#going.add(going);
    this.begun++;
    this.most = Math.max(this.most, this.#going.size);
    for (let left = random(6); left > 0; left--) await nextTick();
    this.#going.delete(going);
  }
}

const containers = ['a', 'b', 'c'];
const names = ['x', 'y', 'z'];
const paths = ['/test/p', '/test/q'];
const backupWish = (): BackupSpec => backup(one(names), { container_id: one(containers), dest: { target: 'local', path: one(paths) } });
const restoreWish = (): RestoreSpec =>
  restore('back', { container_id: one(containers), src: { target: 'local', path: one(paths), portfolio: one(names) }, disable: true });

/** Each read and write takes a moment, and not always as long. */
function slowly<Spec>(kept: JobRows<Spec>): JobRows<Spec> {
  const pause = async () => {
    for (let left = random(3); left > 0; left--) await nextTick();
  };
  return {
    ...kept,
    get: async (id) => {
      await pause();
      return kept.get(id);
    },
    put: async (record, when) => {
      await pause();
      await kept.put(record, when);
    },
  };
}

const clock: WallClock = {
  now: () => Date.now(),
  look: async () => false,
  note: async () => undefined,
  needsNewBase: () => false,
  epoch: () => 0,
  noteBase: async () => undefined,
  forget: async () => undefined,
};

const goingOf = (task: WorkerTask): Going => {
  if (task.kind === 'backup') {
    const { dest, job_name, container_id } = task.spec;
    return { what: `backup ${task.id}`, container: container_id, record: `${dest.path}/${job_name}`, writes: true };
  }
  const { src, container_id } = task.spec;
  return { what: `restore ${task.id}`, container: container_id, record: `${src.path}/${src.portfolio}`, writes: false };
};

function makeBed(watch: Watch) {
  const queue = createQueue(
    async () => 10,
    (error) => watch.clashes.push(`the queue failed: ${error}`),
  );
  const events = { publish: () => undefined };
  const common = {
    ...{ queue, clock, events, retryMs: [], log: () => undefined, onChange: () => undefined },
    ...{ onEnd: async () => undefined, onDelete: async () => undefined },
    bandwidths: new BandwidthShares(async () => 0),
    progress: createProgressBoard(events),
    launch: (task: WorkerTask) => ({
      ended: watch.during(goingOf(task)).then((): RunResult => ({ type: 'result', result: 0 })),
      stop: () => undefined,
      throttle: () => undefined,
    }),
  };
  const environment = { ...{ pluginFolders: [], shares: {}, runtimes: {}, stateFolder: '/nonexistent', logLevel: 'info' as const } };
  const limits = { newBaseRatio: 1, bigFileBytes: 16 << 20, verifyMs: 0, undoMs: 0, stallMs: 0 };
  const task = { environment: { ...environment, ...limits } };
  const backups = new JobRunner<BackupSpec>({
    ...{ ...common, kind: 'backup', rows: slowly(memory<BackupSpec>()), at: ({ at }) => at },
    locks: async (spec) => locksOf(kinds.backup.locks, 'backup', spec),
    task: async (id, spec) => ({ ...task, kind: 'backup', id, spec }),
  });
  const restores = new JobRunner<RestoreSpec>({
    ...{ ...common, kind: 'restore', rows: slowly(memory<RestoreSpec>()), at: () => undefined },
    locks: async (spec) => locksOf(kinds.restore.locks, 'restore', spec),
    task: async (id, spec) => ({ ...task, kind: 'restore', id, spec }),
  });
  const purge = ({ dest, job_name }: BackupSpec) =>
    watch.during({ what: 'a purge', record: `${dest.path}/${job_name}`, writes: true }).then(() => undefined);
  const purges = new Purges({ backups, errands: new Errands(queue), connections: async () => undefined, purge, log: () => undefined });
  return { backups, restores, purges, queue };
}

t.test('jobs that are changed, stopped and purged while they wait and run never conflict', async (t) => {
  const watch = new Watch();
  const { backups, restores, purges, queue } = makeBed(watch);
  const ids: number[] = [];
  for (let n = 0; n < 6; n++) ids.push((await backups.create(backupWish())).id);
  for (let n = 0; n < 4; n++) await restores.create(restoreWish());
  const asked = new Set<Promise<unknown>>();
  let [refused, changedWaiting] = [0, 0];
  const ask = (work: Promise<unknown>): void => {
    const settled = work.catch((error: unknown) => {
      if (!(error instanceof ServiceError)) throw error; // busy, or gone
      refused++;
    });
    asked.add(settled);
    settled.finally(() => asked.delete(settled)).catch(() => undefined);
  };
  const changed = async (id: number) => {
    if ((await backups.update(id, backupWish())).state.code === 'waiting') changedWaiting++;
  };
  const anew = async (at: number) => {
    await purges.purge(ids[at] ?? 0);
    ids[at] = (await backups.create(backupWish())).id;
  };
  for (let n = 0; n < tries; n++) {
    const at = random(ids.length);
    const id = ids[at] ?? 0;
    const wish = random(12);
    if (wish < 4) ask(backups.run(id));
    else if (wish < 7) ask(changed(id));
    else if (wish < 9) ask(restores.run(1 + random(4)));
    else if (wish < 10) ask(restores.update(1 + random(4), restoreWish()));
    else if (wish < 11) ask(backups.stop(id));
    else ask(anew(at));
    for (let left = random(3); left > 0; left--) await nextTick();
  }
  while (asked.size > 0) await Promise.all(asked);
  while (queue.counts().running + queue.counts().waiting > 0) await nextTick();
  t.same(watch.clashes, []);
  t.ok(watch.begun > 200 && watch.most > 1, `${watch.begun} went on, up to ${watch.most} at a time; ${refused} were refused`);
  t.ok(changedWaiting > 10, `${changedWaiting} were changed while they waited`);
});
