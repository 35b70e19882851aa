/** A container with much data in its root, its volume and its folder of the host, alike for both engines. */
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { mountEntry, settings } from '../../../plugins/runtimes/lxc/config.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import type { Appliance } from '../../support/appliance.js';
import { differences, type Snapshot, snapshotOf } from '../../support/fidelity.js';
import { destroyLxc, lxc, startLxc, stopLxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { changeData, type DataSize, makeData } from './busy-data.js';

export type State = 'running' | 'frozen' | 'stopped' | 'absent';
export type Places = Readonly<Record<'root' | 'volume' | 'host', string>>;
export type Trees = Readonly<Record<string, ReadonlyMap<string, Snapshot>>>;

/** An engine as the suites use it. Each function takes the name of the container or of a clone. */
export interface Engine {
  readonly type: 'lxc' | 'docker';
  state(name: string): Promise<State>;
  /** Folders of its data on the host while it runs. */
  places(name: string): Promise<Places>;
  start(name: string): Promise<void>;
  stop(name: string): Promise<void>;
  thaw(name: string): Promise<void>;
  /** Removes it with all its data, its folder of the host included. */
  remove(name: string): Promise<void>;
  /** Leftovers of a draft or a swap. */
  leftovers(): Promise<string[]>;
}

async function namesBelow(folder: string): Promise<string[]> {
  const found = await childOutput('find', [folder, '-name', '*container-backup*']);
  return found.split('\n').filter(Boolean);
}

export function lxcEngine(a: Appliance): Engine {
  const mounted = async (name: string): Promise<Places> => {
    const found = { root: join(a.lxcPath, name, 'rootfs/app'), volume: '', host: '' };
    for (const { key, value } of settings(await readFile(join(a.lxcPath, name, 'config'), 'utf8'))) {
      const entry = key === 'lxc.mount.entry' ? mountEntry(value) : undefined;
      if (entry?.mountpoint === 'data') found.volume = entry.source;
      if (entry?.mountpoint === 'srv') found.host = entry.source;
    }
    return found;
  };
  const state = async (name: string): Promise<State> => {
    if (!(await stat(join(a.lxcPath, name, 'config')).catch(() => undefined))) return 'absent';
    const word = await lxc('info', a.lxcPath, name, '-sH').catch(() => 'ABSENT'); // during a swap its configuration is missing for a moment
    if (word === 'STOPPED' || word === 'ABSENT') return word === 'STOPPED' ? 'stopped' : 'absent';
    return word === 'FROZEN' || word === 'FREEZING' ? 'frozen' : 'running';
  };
  return {
    type: 'lxc',
    state,
    places: mounted,
    start: (name) => startLxc(a.lxcPath, name),
    stop: (name) => stopLxc(a.lxcPath, name),
    async thaw(name) {
      await lxc('freeze', a.lxcPath, name); // completes an interrupted freeze, which lxc-unfreeze alone cannot end
      await lxc('unfreeze', a.lxcPath, name);
    },
    async remove(name) {
      const { host } = (await state(name)) === 'absent' ? { host: '' } : await mounted(name);
      await destroyLxc(a.lxcPath, name);
      if (host !== '') await rm(host, { recursive: true, force: true });
    },
    leftovers: async () => [...(await namesBelow(a.lxcPath)), ...(await namesBelow(join(a.folder, 'hosts')))],
  };
}

/** Lists leftovers of a draft or a swap in the engine, in its folders and in its journals. */
async function dockerLeftovers(a: Appliance, dockerd: Dockerd): Promise<string[]> {
  const { client } = dockerd;
  const all = async (path: string, key: string, list: (answer: unknown) => readonly unknown[]): Promise<string[]> =>
    list(await client.json('GET', path)).map((one) => JSON.stringify(fields(one)[key]));
  const containers = await all('/containers/json?all=1', 'Names', items);
  const volumes = await all('/volumes', 'Name', (answer) => items(fields(answer).Volumes));
  const named = [...containers, ...volumes].filter((name) => name.includes('container-backup'));
  const journals = await namesBelow(join(a.stateFolder, 'plugin-state', 'docker')).catch(() => []);
  return [...named, ...journals, ...(await namesBelow(join(dockerd.folder, 'd/volumes'))), ...(await namesBelow(join(a.folder, 'hosts')))];
}

export function dockerEngine(a: Appliance, dockerd: Dockerd): Engine {
  const { client } = dockerd;
  const inspect = async (name: string) => fields(await client.json('GET', `/containers/${name}/json`).catch(() => undefined));
  const source = async (name: string, destination: string): Promise<string> => {
    const mount = items((await inspect(name)).Mounts).find((one) => fields(one).Destination === destination);
    return text(fields(mount).Source);
  };
  return {
    type: 'docker',
    async state(name) {
      const { State: state } = await inspect(name);
      if (state === undefined) return 'absent';
      if (fields(state).Paused === true) return 'frozen';
      return fields(state).Running === true ? 'running' : 'stopped';
    },
    async places(name) {
      const merged = text(fields(fields((await inspect(name)).GraphDriver).Data).MergedDir);
      return { root: join(merged, 'app'), volume: await source(name, '/data'), host: await source(name, '/srv') };
    },
    start: async (name) => void (await client.json('POST', `/containers/${name}/start`)),
    stop: async (name) => void (await client.json('POST', `/containers/${name}/stop`)),
    thaw: async (name) => void (await client.json('POST', `/containers/${name}/unpause`)),
    async remove(name) {
      const host = await source(name, '/srv');
      await dockerd.removeContainer(name);
      if (host !== '') await rm(host, { recursive: true, force: true });
    },
    leftovers: () => dockerLeftovers(a, dockerd),
  };
}

const loop = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

export interface BusyContainer {
  readonly engine: Engine;
  readonly name: string;
  /** Changes its data. The container may run meanwhile. */
  change(generation: number): Promise<void>;
  /** Reads all its data. */
  trees(): Promise<Trees>;
}

/** Makes and starts it. */
export async function makeBusyLxc(a: Appliance, name: string, size: DataSize): Promise<BusyContainer> {
  const host = join(a.folder, 'hosts', name);
  await mkdir(host, { recursive: true });
  await a.lxc(name, { stopped: true, lines: [`lxc.mount.entry = ${host} srv none bind,create=dir 0 0`] });
  return filled(lxcEngine(a), name, size);
}

/** Makes and starts it. */
export async function makeBusyDocker(a: Appliance, dockerd: Dockerd, name: string, size: DataSize): Promise<BusyContainer> {
  const host = join(a.folder, 'hosts', name);
  await mkdir(host, { recursive: true });
  await dockerd.sampleImage('busy:1');
  await dockerd.run(name, {
    Image: 'busy:1',
    Cmd: ['/bin/sh', '-c', loop],
    HostConfig: {
      NetworkMode: 'none',
      Mounts: [{ Type: 'volume', Source: `volume-of-${name}`, Target: '/data' }],
      Binds: [`${host}:/srv`],
    },
  });
  return filled(dockerEngine(a, dockerd), name, size);
}

/** The volume changes most; the root and the host's folder a little. */
const parts = (size: DataSize): Readonly<Record<keyof Places, DataSize>> => ({
  root: { ...size, hotSmall: Math.round(size.hotSmall / 4), hotLarge: 1 },
  volume: size,
  host: { large: 2, small: 100, hotSmall: 50, hotLarge: 1 },
});

async function filled(engine: Engine, name: string, size: DataSize): Promise<BusyContainer> {
  const sizes = parts(size);
  const each = async (action: (folder: string, size: DataSize) => Promise<void>) => {
    const places = await engine.places(name);
    for (const key of ['root', 'volume', 'host'] as const) await action(places[key], sizes[key]);
  };
  await each(makeData);
  if ((await engine.state(name)) === 'stopped') await engine.start(name);
  return {
    engine,
    name,
    change: (generation) => each((folder, one) => changeData(folder, one, generation)),
    trees: async () => treesOf(await engine.places(name)),
  };
}

export async function treesOf(places: Places): Promise<Trees> {
  const pairs = Object.entries(places).map(async ([key, folder]) => [key, await snapshotOf(folder)] as const);
  return Object.fromEntries(await Promise.all(pairs));
}

/** One line for each difference; none when nothing differs. */
export function treeDifferences(before: Trees, after: Trees): string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) => differences(before[key] ?? new Map(), after[key] ?? new Map()).map((line) => `${key} ${line}`));
}
