/** An LXC and a Docker container, shares on file systems of their own, and jobs that run under a fault. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { fields, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { type Body, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance, ownDockerd } from '../../support/appliance.js';
import { lxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { backupBody, list, restoreBody, settledBackup } from '../bed/request-bodies.js';
import type { Watched } from './untouched.js';
import { boundMount, mountedTmpfs, movedAway, type WayBack } from './ways.js';

export type Make = () => Promise<WayBack>;

/** Folders of the host: share `test` on the disk, `away` on one that can be taken away, `small` on one of 24 MB. */
export interface BedFolders {
  readonly at: (path: string) => string;
  /** Unmounts the disk of `away`. Mounting it again fails when something was written into its mount point. */
  readonly unmounted: Make;
}

export async function makeFolders(t: Test): Promise<BedFolders> {
  const top = await mkdtemp(join(tmpdir(), 'mounts-'));
  const at = (path: string) => join(top, path);
  for (const name of ['test', 'disk', 'away', 'small']) await mkdir(at(name));
  const disk = await mountedTmpfs(at('disk'), '64m');
  const small = await mountedTmpfs(at('small'), '24m');
  let bound = await boundMount(at('disk'), at('away'));
  t.teardown(async () => {
    for (const back of [bound, disk, small]) await back();
    await rm(top, { recursive: true, force: true });
  });
  const unmounted: Make = async () => {
    await bound();
    return async () => {
      const written = await readdir(at('away'));
      bound = await boundMount(at('disk'), at('away'));
      if (written.length > 0) throw new Error(`written to the disk under the mount point: ${written.join(', ')}`);
    };
  };
  return { at, unmounted };
}

export interface Bed extends BedFolders {
  readonly a: Appliance;
  readonly dockerd: Dockerd;
  /** The LXC container `utest`: its folder and its volume. */
  readonly own: string;
  readonly volume: string;
  /** A folder of the host that the Docker container `dtest` mounts; its volume is `dvolume`. */
  readonly host: string;
  readonly lxcWatched: Watched;
  readonly dockerWatched: Watched;
  readonly socketGone: Make;
}

export const endlessLoop = {
  Image: 'sample:1',
  Cmd: ['/bin/sh', '-c', "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
} as const;

async function makeDockerContainer(dockerd: Dockerd, host: string): Promise<void> {
  await mkdir(host);
  await dockerd.sampleImage('sample:1');
  await dockerd.run('dtest', { ...endlessLoop, HostConfig: { NetworkMode: 'none', Binds: [`${host}:/srv`, 'dvolume:/data'] } });
  await dockerd.exec('dtest', 'echo one > /data/file; echo two > /srv/file; echo three > /file');
}

function watchedDocker(dockerd: Dockerd, host: string, folders: readonly string[]): Watched {
  const volumes = join(dockerd.folder, 'd/volumes');
  const inspected = async () => fields(await dockerd.client.json('GET', '/containers/dtest/json'));
  return {
    trees: async () => {
      const layer = text(fields(fields((await inspected()).GraphDriver).Data).UpperDir);
      return { layer, volume: join(volumes, 'dvolume/_data'), host };
    },
    told: async () => {
      const { Id, State: state } = await inspected();
      const names = list(await dockerd.client.json('GET', '/containers/json?all=1')).map((one) => part(one, 'Names'));
      return { Id, running: fields(state).Running, names, volumes: await readdir(volumes) };
    },
    folders,
  };
}

export async function makeBed(t: Test): Promise<Bed> {
  const folders = await makeFolders(t);
  const { at } = folders;
  const dockerd = await ownDockerd(t);
  const shares = { test: at('test'), away: at('away'), small: at('small') };
  const a = await makeAppliance(t, { dockerd, shares, flags: ['--undo-hours', '0'] }); // files kept for an undo would look like leftovers
  const own = join(a.lxcPath, 'utest');
  const volume = join(own, 'volumes/data');
  const host = at('host');
  await a.lxc('utest');
  await mkdir(join(volume, 'inner')); // a mount point
  await makeDockerContainer(dockerd, host);
  const lxcWatched = {
    trees: async () => ({ rootfs: join(own, 'rootfs'), data: volume }),
    told: () => lxc('info', a.lxcPath, 'utest', '-sH'),
    folders: [at('test'), at('small'), a.lxcPath],
  };
  const dockerWatched = watchedDocker(dockerd, host, [at('test')]);
  return { ...folders, a, dockerd, own, volume, host, lxcWatched, dockerWatched, socketGone: () => movedAway(dockerd.socket) };
}

export const local = (path: string, portfolio?: string) => ({ target: 'local', path, ...(portfolio !== undefined && { portfolio }) });
export const nothing: Make = async () => async () => undefined;

/** Makes a job, runs it under the fault, and removes both. @returns the result of the run */
export async function under({ a }: Bed, make: Make, kind: 'backup' | 'restore', more: Body): Promise<Body> {
  const given = { ...(more.type === 'docker' && { container_id: 'dtest' }), ...more };
  const body = kind === 'backup' ? backupBody({ dest: local('/test/jobs'), ...given }) : restoreBody({ disable: true, ...given });
  const id = await a.service.create(kind, body);
  const back = await make();
  try {
    await a.service.call('PUT', `/${kind}/${id}/run`);
    return await (kind === 'backup' ? settledBackup(a.service, id) : a.service.settled(kind, id));
  } finally {
    await back();
    await a.service.call('DELETE', `/${kind}/${id}`);
  }
}
