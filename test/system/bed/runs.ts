/** Backup jobs of one container, their runs, and the restored files of a run. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Body, notSoon, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { destroyLxc } from '../../support/lxc.js';

export interface Archive {
  readonly source: string;
  readonly level: number;
  readonly path: string;
  /** Before compression. */
  readonly bytes: number;
}

export interface Taken {
  readonly record: string;
  readonly run: string;
  /** Duration of the pause as the service reports it, in milliseconds. */
  readonly pauseMs: number;
  /** From the first contact with the container to its last stored byte, in milliseconds. */
  readonly readMs: number;
  /** In the order in which a restore reads them. */
  readonly archives: readonly Archive[];
  /** Codes of its warnings. */
  readonly warnings: readonly string[];
}

/** A folder for each record, because a restore reads all records of its location. */
const parent = (record: string): string => `/runs of ${record}`;

export type Feature = 'compress' | 'pause';

/** Makes a new job, and so a new record, which begins with a base. */
export function newJob(appliance: Appliance, container: string, record: string, features: readonly Feature[]): Promise<number> {
  return appliance.service.create('backup', {
    job_name: record,
    container_id: container,
    type: 'lxc',
    dest: { target: 'local', path: `/test${parent(record)}` },
    at: notSoon(),
    features,
  });
}

/** Folder of a job's record on the host. */
export const recordFolder = (appliance: Appliance, record: string): string =>
  join(appliance.share, parent(record), `container-backup@${record}`);

/** Waits for the end of a run. It polls the short state: for a full one the engine's tools run, which would slow down the run.
 *  @throws Error when it failed */
async function ended({ service }: Appliance, kind: 'backup' | 'restore', job: number): Promise<Body> {
  for (let busy = true; busy; await sleep(50)) {
    const code = String(part(part(await service.call('GET', `/${kind}/${job}`), 'state'), 'code'));
    busy = ['init', 'waiting', 'running'].includes(code);
  }
  return service.ended(kind, job);
}

function archivesOf(manifest: unknown): Archive[] {
  const archives = part(manifest, 'archives');
  if (!Array.isArray(archives)) throw new Error('a manifest without archives');
  return archives.map((one) => ({
    source: String(part(one, 'source')),
    level: Number(part(one, 'level')),
    path: String(part(one, 'path')),
    bytes: Number(part(one, 'bytes')),
  }));
}

export const levelsOfData = ({ archives }: Taken): number[] => archives.filter(({ source }) => source === 'data').map(({ level }) => level);

/** Waits for the end of a run. @returns its figures @throws Error when it failed */
export async function taken(appliance: Appliance, job: number): Promise<Taken> {
  const { run, pause_ms } = await ended(appliance, 'backup', job);
  const manifest = await appliance.service.call('GET', `/backup/${job}/runs/${run}`);
  const record = String(part(part(manifest, 'job'), 'name'));
  const [started, end] = ['started', 'ended'].map((key) => Date.parse(String(part(manifest, key))));
  const readMs = Number(end) - Number(started);
  const warnings = part(manifest, 'warnings');
  const codes = Array.isArray(warnings) ? warnings.map((one) => String(part(one, 'code'))) : [];
  return { record, run: String(run), pauseMs: Number(pause_ms), readMs, archives: archivesOf(manifest), warnings: codes };
}

/** Starts a run and waits for its end. @throws Error when it failed */
export async function take(appliance: Appliance, job: number): Promise<Taken> {
  await appliance.service.call('PUT', `/backup/${job}/run`);
  return taken(appliance, job);
}

/** Restores a run as a clone, reads the clone's volume, and removes the clone. */
export async function lookAt<Seen>(appliance: Appliance, { record, run }: Taken, look: (data: string) => Promise<Seen>): Promise<Seen> {
  const copy = `copy-of-${record}`;
  appliance.alsoDestroy(copy);
  const src = { target: 'local', path: `/test${parent(record)}`, portfolio: `${record}/${run}` };
  const id = await appliance.service.create('restore', { job_name: 'look', container_id: copy, type: 'lxc', src });
  await ended(appliance, 'restore', id);
  try {
    return await look(join(appliance.lxcPath, copy, 'volumes/data'));
  } finally {
    await destroyLxc(appliance.lxcPath, copy);
  }
}
