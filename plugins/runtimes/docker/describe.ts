import type { Description, VolumeDescription } from '../../../core/contract/index.js';
import { innerMountReason, mountsInside } from '../../shared/mounts.js';
import type { Client } from './client.js';
import { engine, orAbsent } from './engine.js';
import { type Inspect, isHidden, nameOf, readInspect } from './inspect.js';
import { judge, namedMounts } from './mounts.js';
import { count, type Fields, fields, items, text } from './narrow.js';
import { userNetworks } from './recipe.js';
import { withNames } from './references.js';

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

/** Names of the other containers, by the host path that they mount. */
async function users(client: Client, own: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const byPath = new Map<string, string[]>();
  for (const other of await engine.containers(client)) {
    const name = nameOf(other);
    if (text(other.Id) === own || isHidden(name)) continue;
    for (const mount of items(other.Mounts).map(fields)) {
      const path = text(mount.Source);
      byPath.set(path, [...(byPath.get(path) ?? []), name]);
    }
  }
  return byPath;
}

async function volumes(inspect: Inspect, shared: ReadonlyMap<string, readonly string[]>) {
  const volume: VolumeDescription[] = [];
  const leftOut: { path: string; reason: string }[] = [];
  for (const judged of await Promise.all(namedMounts(inspect).map(judge))) {
    const { mount } = judged;
    if ('leftOut' in judged) leftOut.push({ path: mount.source || mount.destination, reason: judged.leftOut });
    else {
      for (const { path } of await mountsInside(judged.path)) leftOut.push({ path, reason: innerMountReason });
      volume.push({
        name: mount.source_name,
        origin: mount.type === 'volume' ? 'new' : 'host',
        path: judged.path,
        mountpoint: mount.destination,
        read_only: mount.readOnly,
        shared_with: shared.get(mount.source) ?? [],
      });
    }
  }
  for (const path of Object.keys(fields(inspect.host.Tmpfs))) leftOut.push({ path, reason: 'a tmpfs mount keeps nothing' });
  return { volume, leftOut };
}

/** What `docker inspect` shows of the container with its networks and volumes: their labels and options are lost with
 *  the engine otherwise, and a network that was internal would come back open. */
async function besideText(client: Client, inspect: Inspect): Promise<string[]> {
  const names = inspect.mounts.filter(({ type }) => type === 'volume').map(({ volume }) => `/volumes/${encodeURIComponent(volume)}`);
  const paths = [...[...userNetworks(inspect).keys()].map((name) => `/networks/${encodeURIComponent(name)}`), ...names];
  const found = await Promise.all(paths.map((path) => orAbsent(client.json('GET', path))));
  return found.flatMap((one) => {
    const { Containers: _members, ...rest } = fields(one); // whoever is in the network at the moment
    return one === undefined ? [] : [JSON.stringify(rest)];
  });
}

/** @throws PluginError not_found */
export async function describe(client: Client, name: string): Promise<Description> {
  const native = await withNames(client, await engine.inspectText(client, name));
  const inspect = readInspect(JSON.parse(native));
  const [shared, info] = await Promise.all([users(client, inspect.id), client.json('GET', '/info')]);
  const { volume, leftOut } = await volumes(inspect, shared);
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
