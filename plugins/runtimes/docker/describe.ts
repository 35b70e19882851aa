import type { Description, VolumeDescription } from '../../../core/contract/index.js';
import { innerMountReason, mountsInside } from '../../shared/mounts.js';
import { orAbsent } from '../../shared/presence.js';
import { overlap, type PlaceUser, parentsOf } from '../../shared/swap/index.js';
import type { Client } from './engine/client.js';
import { engine } from './engine/engine.js';
import { type Inspect, readInspect } from './engine/inspect.js';
import { count, type Fields, fields, text } from './engine/json.js';
import { classifyMounts } from './engine/volumes.js';
import { listStoredMounts } from './mounts.js';
import { userNetworks } from './restore/create-request.js';
import { withNames } from './restore/references.js';
import { dockerUsers } from './users.js';

const resourceNames = [
  'Memory',
  'MemoryReservation',
  'MemorySwap',
  'NanoCpus',
  'CpuShares',
  'CpuQuota',
  'CpuPeriod',
  'CpusetCpus',
  'PidsLimit',
];

function resources(host: Fields): Readonly<Record<string, number | string>> {
  const found = resourceNames.map((name) => [name, count(host[name]) || text(host[name])] as const);
  return Object.fromEntries(found.filter(([, value]) => value !== '' && value !== 0));
}

function networks(inspect: Inspect): Description['network'] {
  return Object.entries(inspect.networks).map(([name, value]) => {
    const endpoint = fields(value);
    const address = text(endpoint.IPAddress) || text(fields(endpoint.IPAMConfig).IPv4Address);
    const mac = text(endpoint.MacAddress);
    return { name, ...(address && { address }), ...(mac && { mac }) };
  });
}

async function volumes(client: Client, inspect: Inspect, users: readonly PlaceUser[]) {
  const volume: VolumeDescription[] = [];
  const { stored, leftOut } = listStoredMounts(await classifyMounts(client, inspect));
  const left = leftOut.map(({ mount, leftOut: reason }) => ({ path: mount.source || mount.destination, reason }));
  for (const { mount, path, alsoAt } of stored) {
    for (const { path: inner } of await mountsInside(path)) left.push({ path: inner, reason: innerMountReason });
    const isEngines = mount.type === 'volume' && (path === mount.source || path.startsWith('/proc/'));
    volume.push({
      name: mount.source_name,
      origin: mount.type === 'volume' ? 'new' : 'host',
      path: path.startsWith('/proc/') ? mount.source : path, // a path in /proc ends with the container
      mountpoint: mount.destination,
      read_only: mount.readOnly,
      shared_with: [...new Set(users.filter((user) => overlap(user.path, path)).map(({ container }) => container))],
      ...(alsoAt.length > 0 && { also_at: alsoAt }),
      ...(!isEngines && { parents: await parentsOf(path) }),
    });
  }
  for (const path of Object.keys(fields(inspect.host.Tmpfs))) left.push({ path, reason: 'a tmpfs mount stores nothing' });
  return { volume, leftOut: left };
}

/** `docker inspect` of the container's networks and volumes. The container's own inspect text lacks their labels and options;
 *  without these an internal network would be restored as an open one. */
async function besideText(client: Client, inspect: Inspect): Promise<string[]> {
  const names = inspect.mounts.filter(({ type }) => type === 'volume').map(({ volume }) => `/volumes/${encodeURIComponent(volume)}`);
  const paths = [...[...userNetworks(inspect).keys()].map((name) => `/networks/${encodeURIComponent(name)}`), ...names];
  const found = await Promise.all(paths.map((path) => orAbsent(client.json('GET', path))));
  return found.flatMap((one) => {
    const { Containers: _members, ...rest } = fields(one); // the present members of the network
    return one === undefined ? [] : [JSON.stringify(rest)];
  });
}

/** Describes a container; its inspect text names other containers by name, never by id. @throws PluginError not_found */
export async function describe(client: Client, name: string): Promise<Description> {
  const native = await withNames(client, await engine.inspectText(client, name));
  const inspect = readInspect(JSON.parse(native));
  const [others, info] = await Promise.all([dockerUsers(client, inspect.name), client.json('GET', '/info')]);
  const { volume, leftOut } = await volumes(client, inspect, others);
  const beside = await besideText(client, inspect);
  return {
    arch: text(fields(info).Architecture),
    autostart: ['always', 'unless-stopped'].includes(text(fields(inspect.host.RestartPolicy).Name)),
    image: text(inspect.config.Image),
    name: inspect.name,
    network: networks(inspect),
    resource: resources(inspect.host),
    type: 'docker',
    volume,
    state: inspect.state,
    native: { format: 'docker-inspect', text: beside.length === 0 ? native : `[${[native.trimEnd(), ...beside].join(',\n')}]` },
    left_out: leftOut,
  };
}
