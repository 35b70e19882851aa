/** Containers of a household, with folders of the host and volumes, on either engine. For the suites about what a restore touches. */
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Body, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { destroyLxc, lxc, startLxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { backUp, makeJob } from '../fidelity/bench.js';

export type Kind = 'lxc' | 'docker';
export const kinds = ['lxc', 'docker'] as const;

/** Paths in the container, by the folder of the host or the name of the volume. */
export type Mounts = Readonly<Record<string, string>>;

export class Household {
  constructor(
    readonly t: Test,
    readonly a: Appliance,
    readonly docker: Dockerd,
  ) {}

  /** A folder of the host. */
  async folder(path: string): Promise<string> {
    const full = join(this.a.folder, path);
    await mkdir(full, { recursive: true });
    return full;
  }

  /** A running container. */
  async container(kind: Kind, name: string, mounts: Mounts): Promise<void> {
    const places = Object.entries(mounts);
    if (kind === 'lxc') {
      const lines = places.map(([at, from]) => `lxc.mount.entry = ${from} ${at.slice(1)} none bind,create=dir 0 0`);
      await this.a.lxc(name, { stopped: true, lines });
      return startLxc(this.a.lxcPath, name);
    }
    const Binds = places.map(([at, from]) => `${from}:${at}`);
    const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL' };
    this.alsoRemove(kind, name);
    await this.docker.run(name, { ...body, HostConfig: { NetworkMode: 'none', Binds } });
  }

  /** Registers a container that a restore will make, to remove it at the end. */
  alsoRemove(kind: Kind, name: string): void {
    if (kind === 'lxc') this.a.alsoDestroy(name);
    else this.t.teardown(() => this.docker.removeContainer(name));
  }

  /** Removes the container and keeps its volumes and folders. */
  async lose(kind: Kind, name: string): Promise<void> {
    if (kind === 'lxc') await destroyLxc(this.a.lxcPath, name);
    else await this.docker.client.json('DELETE', `/containers/${name}?force=1`);
  }

  async stop(kind: Kind, name: string): Promise<void> {
    if (kind === 'lxc') await lxc('stop', this.a.lxcPath, name, '-k');
    else await this.docker.client.json('POST', `/containers/${name}/stop?t=0`);
  }

  async start(kind: Kind, name: string): Promise<void> {
    if (kind === 'lxc') await startLxc(this.a.lxcPath, name);
    else await this.docker.client.json('POST', `/containers/${name}/start`);
  }

  /** Backs it up under its own name. */
  async backUp(kind: Kind, name: string, exclude?: readonly string[]): Promise<string> {
    return backUp(this.a.service, await makeJob(this.a.service, { name, container: name, type: kind, ...(exclude && { exclude }) }));
  }

  body(kind: Kind, name: string, as = name, more: Body = {}): Body {
    return { job_name: 'back', container_id: as, type: kind, src: { target: 'local', path: '/test/backups', portfolio: name }, ...more };
  }

  plan(kind: Kind, name: string, as = name, more: Body = {}): Promise<unknown> {
    return this.a.service.call('POST', '/restore/plan', this.body(kind, name, as, more));
  }

  /** Restores it, and compares the places of the plan with those of the result. */
  async restore(kind: Kind, name: string, as = name, more: Body = {}): Promise<{ readonly id: number; readonly state: Body }> {
    const planned = part(await this.plan(kind, name, as, more), 'places');
    if (as !== name) this.alsoRemove(kind, as);
    const id = await this.a.service.create('restore', this.body(kind, name, as, more));
    const state = await this.a.service.ended('restore', id);
    this.t.same(state.places, planned, `${as}: the places are as the plan had said`);
    return { id, state };
  }

  /** Restores and expects a failure. @returns the state */
  async refused(kind: Kind, name: string, as = name): Promise<Body> {
    const id = await this.a.service.create('restore', this.body(kind, name, as));
    return this.a.service.settled('restore', id);
  }
}

/** Name of a source in the API: from its path in the container (LXC) or on the host (Docker). */
export const sourceOf = (kind: Kind, at: string, folder: string): string =>
  (kind === 'lxc' ? at : folder).replace(/^\/+/, '').replace(/[^a-zA-Z0-9._-]+/g, '-');

export const inodeOf = async (path: string): Promise<number> => (await stat(path)).ino;
export const textOf = (...path: readonly string[]): Promise<string> => readFile(join(...path), 'utf8');
