import { readFile } from 'node:fs/promises';
import { orAbsent } from '../../../shared/presence.js';
import type { Client } from './client.js';
import { type Inspect, readInspect } from './inspect.js';
import { type Fields, fields, items, text, texts } from './json.js';

const container = (ref: string, rest: string) => `/containers/${encodeURIComponent(ref)}${rest}`;

/** The folder of this machine that a volume's options bind (`o=bind`); the engine mounts it while a container uses the volume.
 *  undefined when the options bind no folder. */
export function volumeDevice(told: Fields): string | undefined {
  const { o, device } = fields(told.Options);
  const isBind = text(o)
    .split(',')
    .some((one) => one === 'bind' || one === 'rbind');
  return text(told.Driver) === 'local' && isBind && text(device).startsWith('/') ? text(device) : undefined;
}

/** Engine calls that more than one module needs; containers, images and volumes by name or id. */
export const engine = {
  inspectText(client: Client, ref: string): Promise<string> {
    return client.text('GET', container(ref, '/json'));
  },
  async inspect(client: Client, ref: string): Promise<Inspect> {
    return readInspect(await client.json('GET', container(ref, '/json')));
  },
  /** A row for each container. Its own name comes before names from legacy links (`/other/alias`). */
  async containers(client: Client): Promise<readonly Fields[]> {
    const rows = items(await client.json('GET', '/containers/json?all=1')).map(fields);
    return rows.map((row) => ({ ...row, Names: texts(row.Names).toSorted((a, b) => a.lastIndexOf('/') - b.lastIndexOf('/')) }));
  },
  async rename(client: Client, id: string, name: string): Promise<void> {
    await client.json('POST', container(id, `/rename?name=${encodeURIComponent(name)}`));
  },
  async start(client: Client, id: string): Promise<void> {
    await client.json('POST', container(id, '/start'));
  },
  /** Thaws it first, since the engine does not stop a paused one. Waits as long as the container's stop timeout. */
  async stop(client: Client, inspect: Inspect): Promise<void> {
    if (inspect.state === 'frozen') await client.json('POST', container(inspect.id, '/unpause'));
    await client.json('POST', container(inspect.id, '/stop'), { silence: 0 });
  },
  /** Removes a container and keeps its named volumes. Does nothing when the container is gone. */
  async remove(client: Client, id: string): Promise<void> {
    await orAbsent(client.json('DELETE', container(id, '?force=1')));
  },
  async setRestart(client: Client, id: string, policy: unknown): Promise<void> {
    await client.json('POST', container(id, '/update'), { body: { RestartPolicy: policy } });
  },
  /** The id of an image named by tag or id. */
  async imageId(client: Client, ref: string): Promise<string | undefined> {
    if (ref === '') return undefined;
    return text(fields(await orAbsent(client.json('GET', `/images/${encodeURIComponent(ref)}/json`))).Id) || undefined;
  },
  /** Folder in which the vfs driver stores a container's whole root, running or not. No API call names it; it is in the engine's
   *  state, `image/vfs/layerdb/mounts/<container>/mount-id` (moby, layer/filestore.go). undefined for other drivers. */
  async vfsRoot(client: Client, id: string): Promise<string | undefined> {
    const { Driver, DockerRootDir } = fields(await client.json('GET', '/info'));
    if (Driver !== 'vfs' || text(DockerRootDir) === '') return undefined;
    const mount = await readFile(`${text(DockerRootDir)}/image/vfs/layerdb/mounts/${id}/mount-id`, 'utf8').catch(() => '');
    return /^[0-9a-f]{64}$/.test(mount) ? `${text(DockerRootDir)}/vfs/dir/${mount}` : undefined;
  },
  /** The engine's description of a volume; undefined when there is none. */
  async volume(client: Client, name: string): Promise<Fields | undefined> {
    const found = await orAbsent(client.json('GET', `/volumes/${encodeURIComponent(name)}`));
    return found === undefined ? undefined : fields(found);
  },
  /** The folders that volumes' options bind, by volume name. */
  async volumeDevices(client: Client): Promise<ReadonlyMap<string, string>> {
    const all = items(fields(await client.json('GET', '/volumes')).Volumes).map(fields);
    return new Map(
      all.flatMap((one) => {
        const device = volumeDevice(one);
        return device === undefined ? [] : [[text(one.Name), device] as const];
      }),
    );
  },
  /** The folder that holds a volume's files, mounted or not. */
  async volumePath(client: Client, name: string): Promise<string | undefined> {
    const found = await engine.volume(client, name);
    return found && (volumeDevice(found) ?? (text(found.Mountpoint) || undefined));
  },
  /** @param how Driver, DriverOpts and Labels, as the API takes them */
  async createVolume(client: Client, name: string, how: Fields): Promise<void> {
    await client.json('POST', '/volumes/create', { body: { Name: name, ...how } });
  },
};
