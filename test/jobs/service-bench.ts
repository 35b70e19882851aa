/** A job service with records in memory, a clock that can be set, and the sample worker in real threads. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BackupSpec, JobRecord, JobRecords, Lease, RestoreSpec } from '../../core/jobs/job.js';
import { createJobService } from '../../core/jobs/service.js';

export function memory<Spec>(): JobRecords<Spec> {
  const kept = new Map<number, JobRecord<Spec>>();
  let last = 0;
  return {
    list: async () => [...kept.values()],
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

const environment = {
  pluginFolders: [],
  shares: {},
  runtimes: {},
  newBaseRatio: 0.5,
  undoMs: 0,
  stallMs: 60_000,
  logLevel: 'info',
} as const;

export async function bench(t: { teardown(end: () => unknown): void }) {
  const folder = await mkdtemp(join(tmpdir(), 'jobs-'));
  const leases = new Map<string, Lease>();
  const world = { backups: memory<BackupSpec>(), restores: memory<RestoreSpec>(), leases, resumed: [''], offset: 0, limit: 2 };
  world.resumed.pop();
  const open = async () => {
    const service = await createJobService({
      backups: world.backups,
      restores: world.restores,
      leases: {
        list: async () => [...leases.values()],
        put: async (lease) => void leases.set(lease.container, lease),
        delete: async (_, container) => void leases.delete(container),
      },
      environment: { ...environment, stateFolder: folder },
      targets: { get: async () => undefined, seal: (text) => text, found: async () => undefined },
      concurrent: async () => world.limit,
      runtime: () => ({
        resume: async (container) => void world.resumed.push(container),
        undo: async () => undefined,
        dropUndo: async () => undefined,
      }),
      clock: () => Date.now() + world.offset,
      clockFile: join(folder, 'clock.json'),
      log: () => undefined,
      workerFile: fileURLToPath(new URL('./sample-worker.js', import.meta.url)),
    });
    t.teardown(() => service.close());
    await service.resumeLeases();
    await service.start();
    return service;
  };
  t.teardown(() => sleep(10).then(() => rm(folder, { recursive: true, force: true })));
  return { world, open };
}

/** Waits until `test` holds. @throws after 10 s */
export async function until(test: () => Promise<boolean> | boolean): Promise<void> {
  for (let n = 0; n < 1000; n++) {
    if (await test()) return;
    await sleep(10);
  }
  throw new Error(`never: ${test}`);
}
