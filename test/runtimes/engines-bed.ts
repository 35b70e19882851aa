/** Both runtimes over engines of the suite's own, with containers that are stopped and have folders of the host. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { PluginLog, Runtime } from '../../core/contract/index.js';
import dockerPlugin from '../../plugins/runtimes/docker/index.js';
import lxcPlugin from '../../plugins/runtimes/lxc/index.js';
import { fill, planOf, type Saved } from '../conformance/runtime/index.js';
import { ownDockerd } from '../support/appliance.js';
import { destroyLxc, makeLxcContainer, makeLxcPath } from '../support/lxc.js';
import type { Dockerd } from '../support/servers/dockerd.js';
import type { Mounts } from '../system/household/bed.js';

export interface Engine {
  readonly runtime: Runtime;
  /** Makes a container, stopped. */
  make(name: string, mounts: Mounts): Promise<void>;
  /** It goes; its volumes and folders stay. */
  lose(name: string): Promise<void>;
}

export interface Engines {
  readonly docker: Engine;
  readonly lxc: Engine;
  readonly dockerd: Dockerd;
  readonly lxcPath: string;
  /** A folder of the host, for others in it. */
  readonly top: string;
  /** Where the plugins keep their journals. */
  readonly stateFolder: string;
  /** What the runtimes told. */
  readonly told: readonly string[];
}

const { signal } = new AbortController();

export async function makeEngines(t: Pick<Test, 'teardown'>): Promise<Engines> {
  const dockerd = await ownDockerd(t);
  await dockerd.sampleImage('sample:1');
  const lxcPath = await makeLxcPath();
  const top = await mkdtemp(join(tmpdir(), 'engines-'));
  const stateFolder = await mkdtemp(join(top, 'state-'));
  t.teardown(async () => {
    for (const name of await readdir(lxcPath)) await destroyLxc(lxcPath, name);
    for (const path of [lxcPath, top]) await rm(path, { recursive: true, force: true });
  });
  const told: string[] = [];
  const log: PluginLog = (_level, message) => void told.push(message);
  const docker: Engine = {
    runtime: await dockerPlugin.open({ log, signal, stateFolder, options: { socket: dockerd.socket } }),
    async make(name, mounts) {
      const Binds = Object.entries(mounts).map(([at, from]) => `${from}:${at}`);
      const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], HostConfig: { NetworkMode: 'none', Binds } };
      await dockerd.client.json('POST', `/containers/create?name=${name}`, { body });
    },
    lose: (name) => dockerd.client.json('DELETE', `/containers/${name}?force=1`).then(() => undefined),
  };
  const lxc: Engine = {
    runtime: await lxcPlugin.open({ log, signal, stateFolder: lxcPath, options: { path: lxcPath } }),
    make: (name, mounts) =>
      makeLxcContainer(lxcPath, name, {
        lines: Object.entries(mounts).map(
          ([at, from]) => `lxc.mount.entry = ${from} ${at.slice(1)} none bind,create=${from.endsWith('.conf') ? 'file' : 'dir'} 0 0`,
        ),
      }),
    lose: (name) => destroyLxc(lxcPath, name),
  };
  return { docker, lxc, dockerd, lxcPath, top, stateFolder, told };
}

/** A folder with a file. */
export async function folderAt(...path: readonly string[]): Promise<string> {
  const full = join(...path);
  await mkdir(full, { recursive: true });
  await writeFile(join(full, 'file'), 'of the run');
  return full;
}

export interface RestoreWish {
  readonly as?: string;
  readonly action?: 'create' | 'replace';
  /** Meddles with what the archives brought. */
  change?(folders: ReadonlyMap<string, string>): Promise<unknown>;
}

/** Restores what was saved. @returns the id of its undo */
export async function restore(runtime: Runtime, saved: Saved, o: RestoreWish = {}): Promise<string> {
  const { as = saved.description.name, action = 'create' } = o;
  const draft = await runtime.draft({ ...planOf(saved, as, action), undoUntil: Date.now() + 3_600_000 }, { signal });
  try {
    await fill(draft, saved);
    await o.change?.(await draft.folders());
    return (await draft.commit()).undo ?? '';
  } finally {
    await draft.discard();
  }
}
