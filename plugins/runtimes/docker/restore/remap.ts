/** Applies a plan's remap to the inspect text, before any call to the engine. */
import { PluginError, type Remap, type RestorePlan } from '../../../../core/contract/index.js';
import { checkAddress, checkVolumes, findRepeated, hasNewMacs, requireKnown } from '../../../shared/remap.js';
import { type Inspect, readNative } from '../engine/inspect.js';
import { type Fields, fields, items, text } from '../engine/json.js';
import { namedMounts } from '../mounts.js';

/** The host port that a binding asks for, in both forms that a remap may use (`80/tcp`, `80`). */
function portNames(inside: string, binding: Fields): readonly string[] {
  const port = text(binding.HostPort);
  const protocol = inside.split('/')[1] ?? 'tcp';
  return port === '' ? [] : [`${port}/${protocol}`, ...(protocol === 'tcp' ? [port] : [])];
}

function withPorts(inspect: Inspect, ports: NonNullable<Remap['ports']>): Inspect {
  const bindings = Object.entries(fields(inspect.host.PortBindings)).map(([inside, list]) => ({ inside, list: items(list).map(fields) }));
  requireKnown(
    'ports',
    ports,
    bindings.flatMap(({ inside, list }) => list.flatMap((one) => portNames(inside, one))),
  );
  const moved = bindings.map(({ inside, list }) => [
    inside,
    list.map((one) => {
      const port = portNames(inside, one)
        .map((name) => ports[name])
        .find((to) => to !== undefined);
      return port === undefined ? one : { ...one, HostPort: port === 0 ? '' : String(port) };
    }),
  ]);
  return { ...inspect, host: { ...inspect.host, PortBindings: Object.fromEntries(moved) } };
}

/** A fixed address belongs to its network: in another network the container has one only if the remap names it. */
function moveEndpoint(endpoint: Fields, { to, address }: { readonly to?: string; readonly address?: string }): Fields {
  if (address === undefined && to === undefined) return endpoint;
  const { IPAMConfig, IPPrefixLen: _length, Gateway: _gateway, ...rest } = endpoint;
  if (address === undefined) return { ...rest, IPAMConfig: null };
  const config = to === undefined ? fields(IPAMConfig) : {};
  const asked = address.includes(':') ? { IPv6Address: address } : { IPv4Address: address };
  return { ...(to === undefined ? endpoint : rest), IPAMConfig: { ...config, ...asked } };
}

function withNetworks(inspect: Inspect, network: NonNullable<Remap['network']>): Inspect {
  requireKnown('network', network, Object.keys(inspect.networks));
  for (const { address } of Object.values(network)) checkAddress(address);
  const moved = Object.entries(inspect.networks).map(([name, value]) => {
    const change = network[name];
    return [change?.to ?? name, change ? moveEndpoint(fields(value), change) : value] as const;
  });
  const twice = findRepeated(moved.map(([name]) => name));
  if (twice !== undefined) throw new PluginError('invalid', `remap.network would put the container into ${twice} twice`);
  const mode = text(inspect.host.NetworkMode);
  const main = mode === 'default' ? 'bridge' : mode;
  const NetworkMode = network[main]?.to ?? mode;
  return { ...inspect, networks: Object.fromEntries(moved), host: { ...inspect.host, NetworkMode } };
}

/** A MAC address that the owner chose goes with the container, not with its clones. */
function withMac(inspect: Inspect, plan: RestorePlan): Inspect {
  if (!hasNewMacs(plan)) return inspect;
  const { MacAddress: _mac, ...config } = inspect.config;
  return { ...inspect, config };
}

/** Labels by which an orchestrator recognises its own containers and volumes. */
export const foreignLabels = /^(com\.docker\.(compose|swarm|stack)\.|io\.kubernetes\.)/;

/** Names of the labels that a clone does not get: it belongs to no project. */
export function droppedLabels(plan: RestorePlan): readonly string[] {
  if (plan.container === plan.description.name) return [];
  return Object.keys(fields(readNative(plan.description.native).config.Labels)).filter((name) => foreignLabels.test(name));
}

function withoutForeignLabels(inspect: Inspect, plan: RestorePlan): Inspect {
  const dropped = new Set(droppedLabels(plan));
  if (dropped.size === 0) return inspect;
  const Labels = Object.fromEntries(Object.entries(fields(inspect.config.Labels)).filter(([name]) => !dropped.has(name)));
  return { ...inspect, config: { ...inspect.config, Labels } };
}

/** The plan's inspect text with its remap applied; volumes move when they are laid out. @throws PluginError invalid,
 *  unsupported */
export function applyRemap(plan: RestorePlan): Inspect {
  const { remap = {} } = plan;
  if (remap.ids !== undefined) throw new PluginError('unsupported', "remap.ids: Docker's ids are set for the whole engine; leave it out");
  const inspect = withoutForeignLabels(withMac(readNative(plan.description.native), plan), plan);
  checkVolumes(
    remap.volumes,
    namedMounts(inspect).map((mount) => mount.source_name),
  );
  const ported = remap.ports ? withPorts(inspect, remap.ports) : inspect;
  return remap.network ? withNetworks(ported, remap.network) : ported;
}
