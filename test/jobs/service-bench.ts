/** A job service with records in memory, a clock that a test can set, and the sample worker in real threads. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { JobServiceDeps } from '../../core/jobs/deps.js';
import type { BackupSpec, JobRow, JobRows, Lease, RestoreSpec } from '../../core/jobs/job.js';
import { createJobService } from '../../core/jobs/service.js';
import { parse } from '../../core/schemas.js';
import { openHistory } from '../../core/store/history.js';
import type { RemoteTarget } from '../../core/targets/remote.js';

export function memory<Spec>(): JobRows<Spec> {
  const kept = new Map<number, JobRow<Spec>>();
  let last = 0;
  return {
    list: async () => [...kept.values()],
    listNamed: async () => [], // of no use to the scheduler
    listUsing: async () => [],
    get: async (id) => kept.get(id),
    create: async (spec, state) => {
      const record = { id: ++last, spec, state };
      kept.set(last, record);
      return record;
    },
    put: async (record) => void kept.set(record.id, record),
    delete: async (id) => void kept.delete(id),
  };
}

export function backup(name: string, more: Partial<BackupSpec> = {}): BackupSpec {
  const dest = { target: 'local', path: '/test/b' } as const;
  return {
    job_name: name,
    container_id: name,
    type: 'lxc',
    dest,
    at: { repeat: 'daily', start: 60 },
    disable: false,
    retention: 0,
    features: [],
    ...more,
  };
}

export function restore(name: string, more: Partial<RestoreSpec> = {}): RestoreSpec {
  return { job_name: name, container_id: name, type: 'lxc', src: { target: 'local', path: '/test/b' }, disable: false, ...more };
}

export function remoteTarget(more: object): RemoteTarget {
  const spec = { name: 'nas', ipaddr: 'nas.example', username: 'u', password: 'p', ...more };
  return { id: 1, spec: parse('target', spec) };
}

const environment = {
  pluginFolders: [],
  shares: {},
  runtimes: {},
  newBaseRatio: 0.5,
  bigFileBytes: 16 << 20,
  verifyMs: 0,
  undoMs: 0,
  stallMs: 60_000,
  logLevel: 'info',
} as const;

interface Fakes {
  readonly backups: JobRows<BackupSpec>;
  readonly restores: JobRows<RestoreSpec>;
  readonly leases: Map<string, Lease>;
  readonly resumed: string[];
  /** What the engine was asked to bring back or to drop, and how long that takes. */
  readonly undone: string[];
  undoing: Promise<void>;
  /** Names of jobs whose records were to be deleted, and what comes of it. */
  readonly purged: string[];
  purging: () => Promise<void>;
  target: RemoteTarget | undefined;
  offset: number;
  limit: number;
}

const newFakes = (): Fakes => ({
  backups: memory(),
  restores: memory(),
  leases: new Map(),
  resumed: [],
  undone: [],
  undoing: Promise.resolve(),
  purged: [],
  purging: async () => undefined,
  target: undefined,
  offset: 0,
  limit: 2,
});

function depsOf(fakes: Fakes, folder: string): JobServiceDeps {
  const { backups, restores, leases } = fakes;
  const undo = async (id: string) => {
    fakes.undone.push(id);
    await fakes.undoing;
  };
  return {
    backup: backups,
    restore: restores,
    leases: {
      list: async () => [...leases.values()],
      put: async (lease) => void leases.set(lease.container, lease),
      delete: async (_, container) => void leases.delete(container),
    },
    history: openHistory(join(folder, 'history'), () => undefined),
    retryMs: [200, 400],
    environment: { ...environment, stateFolder: folder },
    targets: { get: async () => fakes.target, seal: (text) => text, keepFound: async () => undefined },
    concurrent: async () => fakes.limit,
    maxPauseSeconds: async () => undefined,
    runtime: () => ({ resume: async (container) => void fakes.resumed.push(container), undo, dropUndo: undo }),
    purge: async ({ job_name }) => {
      fakes.purged.push(job_name);
      await fakes.purging();
    },
    clock: () => Date.now() + fakes.offset,
    clockFile: join(folder, 'clock.json'),
    log: () => undefined,
    workerFile: fileURLToPath(new URL('./sample-worker.js', import.meta.url)),
  };
}

export async function bench(t: { teardown(end: () => unknown): void }) {
  const folder = await mkdtemp(join(tmpdir(), 'jobs-'));
  const fakes = newFakes();
  const open = async () => {
    const service = await createJobService(depsOf(fakes, folder));
    t.teardown(() => service.close());
    await service.resumeLeases();
    await service.start();
    return service;
  };
  t.teardown(() => sleep(10).then(() => rm(folder, { recursive: true, force: true })));
  return { fakes, open };
}

/** Waits until `test` holds. @throws after 10 s */
export async function until(test: () => Promise<boolean> | boolean): Promise<void> {
  for (let n = 0; n < 1000; n++) {
    if (await test()) return;
    await sleep(10);
  }
  throw new Error(`never: ${test}`);
}
