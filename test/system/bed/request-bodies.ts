/** Valid request bodies of every kind, and functions that read and compare answers. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Body, isBody, part } from '../../support/api-client.js';
import type { DemoService } from '../../support/demo-client.js';

let made = 0;

/** A daily backup job with a unique name. */
export const backupBody = (more: Body = {}): Body => ({
  job_name: `job-${++made}`,
  container_id: 'utest',
  type: 'lxc',
  dest: { target: 'local', path: '/test/jobs' },
  at: { repeat: 'daily', start: 60 },
  ...more,
});

export const restoreBody = (more: Body = {}): Body => ({
  job_name: 'restore',
  container_id: 'utest',
  type: 'lxc',
  src: { target: 'local', path: '/test/jobs' },
  ...more,
});

export const targetBody = (more: Body = {}): Body => ({
  name: 'testsite',
  ipaddr: '127.0.0.1:5000',
  username: 'admin',
  password: 'admin',
  ...more,
});

export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
export const idOf = (value: unknown): number => Number(part(value, 'id'));

/** The state of a job, short or full (`?view=full`). */
export async function stateOf(service: DemoService, kind: 'backup' | 'restore', id: number, view = ''): Promise<Body> {
  const state = part(await service.call('GET', `/${kind}/${id}${view}`), 'state');
  if (!isBody(state)) throw new Error(`${kind} ${id} has no state`);
  return state;
}

/** Waits until the scheduler knows a new backup job; it learns of it right after the answer. */
export async function accepted(service: DemoService, id: number): Promise<number> {
  while ((await stateOf(service, 'backup', id)).code === 'init') await sleep(20);
  return id;
}

/** Makes a backup job and runs it. @returns the job and the run @throws Error when the run failed */
export async function backedUp(service: DemoService, more: Body = {}): Promise<{ readonly id: number; readonly run: string }> {
  const id = await service.create('backup', backupBody(more));
  return { id, run: await ranAgain(service, id) };
}

/** Waits until the run of a backup job has ended. @returns the full state. It polls the short state: for a full one the engines list all
 *  their containers, which would slow down the run. */
export async function settledBackup(service: DemoService, id: number): Promise<Body> {
  while (['init', 'waiting', 'running'].includes(String((await stateOf(service, 'backup', id)).code))) await sleep(50);
  return service.settled('backup', id);
}

/** As settledBackup. @throws Error when the run failed */
export async function endedBackup(service: DemoService, id: number): Promise<Body> {
  await settledBackup(service, id);
  return service.ended('backup', id);
}

/** Runs it now. @throws Error when the run failed */
export async function ranAgain(service: DemoService, id: number): Promise<string> {
  await service.call('PUT', `/backup/${id}/run`);
  return String((await endedBackup(service, id)).run);
}

/** Restores and waits for the end. @returns the full state, whatever the result */
export async function restored(service: DemoService, more: Body): Promise<Body> {
  return service.settled('restore', await service.create('restore', restoreBody(more)));
}

/** Paths of everything in a folder, hidden entries included. */
export async function allIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).sort();
}
