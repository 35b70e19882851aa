/** Good request bodies of every kind, and what of an appliance the suites look at. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Body, type DemoService, isBody, part } from '../support/demo-client.js';

let made = 0;

/** A daily backup under a name of its own. */
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

/** The state of a job; `?view=full` when asked for. */
export async function stateOf(service: DemoService, kind: 'backup' | 'restore', id: number, view = ''): Promise<Body> {
  const state = part(await service.call('GET', `/${kind}/${id}${view}`), 'state');
  if (!isBody(state)) throw new Error(`${kind} ${id} has no state`);
  return state;
}

/** Makes a backup job and runs it to its good end: the job and the run. */
export async function backedUp(service: DemoService, more: Body = {}): Promise<{ readonly id: number; readonly run: string }> {
  const id = await service.create('backup', backupBody(more));
  return { id, run: await ranAgain(service, id) };
}

export async function ranAgain(service: DemoService, id: number): Promise<string> {
  return String((await service.backUp(id)).run);
}

/** Restores and waits for the end, good or bad: the state in full. */
export async function restored(service: DemoService, more: Body): Promise<Body> {
  return service.settled('restore', await service.create('restore', restoreBody(more)));
}

/** All that lies in a folder, by path, hidden things too. */
export async function allIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).sort();
}
