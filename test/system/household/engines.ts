/** The folders and containers of a household on this machine. Both engines have the same functions. */
import { chmod, chown, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { mountEntry, settings } from '../../../plugins/runtimes/lxc/config.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import type { Appliance } from '../../support/appliance.js';
import { destroyLxc, lxc, makeLxcContainer, startLxc, stopLxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import type { ContainerWish, Graph } from './graph.js';

export interface ToldMount {
  readonly at: string;
  /** A volume's name or a path, as the engine reports it. */
  readonly host: string;
  readonly readOnly: boolean;
}

export interface Engine {
  make(wish: ContainerWish): Promise<void>;
  /** Removes it. Its host folders and the engine's volumes stay. */
  remove(name: string): Promise<void>;
  start(name: string): Promise<void>;
  stop(name: string): Promise<void>;
  /** Pid of its init on the host; 0 when it does not run, undefined when it does not exist. */
  pid(name: string): Promise<number | undefined>;
  mounts(name: string): Promise<readonly ToldMount[]>;
  /** The folder of its root that the suite compares. */
  own(name: string): Promise<string>;
  /** By name. */
  volumes(): Promise<ReadonlyMap<string, string>>;
  removeVolume(name: string): Promise<void>;
  /** Names of all containers, those kept for an undo included. */
  names(): Promise<readonly string[]>;
}

export function dockerEngine({ client, run }: Dockerd): Engine {
  const inspect = async (name: string) => fields(await client.json('GET', `/containers/${name}/json`));
  const own = async (name: string) => join(text(fields(fields((await inspect(name)).GraphDriver).Data).UpperDir), 'own');
  const names = async () =>
    items(await client.json('GET', '/containers/json?all=1')).map((one) => String(fields(one).Names).replace(/^\//, ''));
  return {
    own,
    names,
    async make({ name, mounts, running }) {
      const Binds = mounts.map(({ at, host }) => `${host}:/${at}`);
      const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none', Binds } };
      if (running) await run(name, body);
      else await client.json('POST', `/containers/create?name=${name}`, { body });
    },
    remove: async (name) => void (await client.json('DELETE', `/containers/${name}?force=1`)),
    start: async (name) => void (await client.json('POST', `/containers/${name}/start`)),
    stop: async (name) => void (await client.json('POST', `/containers/${name}/stop`)),
    async pid(name) {
      if (!(await names()).includes(name)) return undefined;
      return Number(fields((await inspect(name)).State).Pid);
    },
    async mounts(name) {
      const told = items((await inspect(name)).Mounts).map(fields);
      return told.map(({ Name, Source, Destination, RW }) => ({
        at: text(Destination).slice(1),
        host: text(Name) || text(Source),
        readOnly: RW !== true,
      }));
    },
    async volumes() {
      const all = items(fields(await client.json('GET', '/volumes')).Volumes).map(fields);
      return new Map(all.map(({ Name, Mountpoint }) => [text(Name), text(Mountpoint)]));
    },
    removeVolume: async (name) => void (await client.json('DELETE', `/volumes/${name}`)),
  };
}

export function lxcEngine(path: string): Engine {
  const names = async () => (await readdir(path)).filter((name) => !name.startsWith('.'));
  return {
    own: async (name) => join(path, name, 'rootfs/own'),
    names,
    async make({ name, mounts, running }) {
      const lines = mounts
        .filter(({ isVolume }) => !isVolume)
        .map(({ at, host, kind }) => `lxc.mount.entry = ${host} ${at} none bind,create=${kind === 'file' ? 'file' : 'dir'} 0 0`);
      await makeLxcContainer(path, name, { lines });
      if (!mounts.some(({ isVolume }) => isVolume)) {
        const config = join(path, name, 'config');
        const kept = (await readFile(config, 'utf8')).split('\n').filter((line) => !line.includes('volumes/data'));
        await writeFile(config, kept.join('\n'));
        await rm(join(path, name, 'volumes'), { recursive: true });
      }
      if (running) await startLxc(path, name);
    },
    remove: (name) => destroyLxc(path, name),
    start: (name) => startLxc(path, name),
    stop: (name) => stopLxc(path, name),
    async pid(name) {
      if (!(await names()).includes(name)) return undefined;
      const pid = Number(await lxc('info', path, name, '-pH').catch(() => 0));
      return Number.isInteger(pid) && pid > 0 ? pid : 0;
    },
    async mounts(name) {
      const entries = settings(await readFile(join(path, name, 'config'), 'utf8')).flatMap(({ key, value }) =>
        key === 'lxc.mount.entry' ? (mountEntry(value) ?? []) : [],
      );
      const binds = entries.filter(({ source }) => source.startsWith('/'));
      return binds.map(({ source, mountpoint, options }) => ({ at: mountpoint, host: source, readOnly: options.includes('ro') }));
    },
    volumes: async () => new Map(),
    removeVolume: async () => undefined,
  };
}

export const cleared = async (folder: string): Promise<void> => {
  for (const name of await readdir(folder)) {
    if (!name.startsWith('.container-backup-')) await rm(join(folder, name), { recursive: true, force: true });
  }
};

/** Makes folders, links and mounts. Dispose removes all of them. */
export async function makeFolders(graph: Graph): Promise<AsyncDisposable> {
  const { top, media, folders, mounts, links, files } = graph;
  await mkdir(top, { mode: 0o751 });
  for (const folder of folders.filter((one) => !one.startsWith(`${top}/disk`))) await mkdir(folder, { recursive: true });
  const mounted: string[] = [];
  for (const { at, from } of mounts) {
    await mkdir(at, { recursive: true });
    await childOutput('mount', from === undefined ? ['-t', 'tmpfs', '-o', 'size=4m', 'none', at] : ['--bind', from, at]);
    mounted.unshift(at);
  }
  for (const folder of folders) await mkdir(folder, { recursive: true });
  for (const folder of [...folders, ...mounts.map(({ at }) => at)]) {
    for (const name of ['one', 'two.tmp']) await writeFile(join(folder, name), `${folder}/${name} at first`);
  }
  for (const file of files) await writeFile(file, `${file} at first`);
  for (const [link, goal] of Object.entries(links)) await symlink(goal, link);
  await chmod(join(top, 'plain/a'), 0o2771);
  await chown(join(top, 'plain/a'), 33, 44);
  await chmod(join(top, 'disk/d'), 0o705);
  return {
    async [Symbol.asyncDispose]() {
      for (const at of mounted) await childOutput('umount', ['-l', at]);
      await rm(top, { recursive: true, force: true });
      for (const name of await readdir(dirname(media))) if (name !== 'media') await rm(join(dirname(media), name), { recursive: true });
      await cleared(media);
    },
  };
}

/** Names of all journals of restores on an appliance. */
export async function journalsOf(a: Appliance): Promise<string[]> {
  const all = await readdir(join(a.stateFolder, 'plugin-state'), { recursive: true }).catch(() => []);
  return all.filter((name) => /swap-[0-9a-f]+\.json/.test(name));
}
