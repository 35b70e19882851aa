/** Applies a plan's remap to the configuration, before anything is laid out. */
import { PluginError, type Remap, type RestorePlan } from '../../../../core/contract/index.js';
import { checkAddress, checkVolumes, requireKnown } from '../../../shared/remap.js';
import { rewrite, settings } from '../config.js';
import { withIds } from '../ids.js';

const ofNetwork = /^lxc\.net\.(\d+)\.(.+)$/;

/** Bridge or parent device, by the network's number. */
function linksOf(text: string): ReadonlyMap<string, string> {
  const links = new Map<string, string>();
  for (const { key, value } of settings(text)) {
    const [, number, name] = ofNetwork.exec(key) ?? [];
    if (number !== undefined && name === 'link') links.set(number, value);
  }
  return links;
}

/** The new address with the old one's prefix length. */
const withLength = (address: string, old: string): string => address + (/\/\d+/.exec(old)?.[0] ?? '');

function withNetworks(text: string, network: NonNullable<Remap['network']>): string {
  const links = linksOf(text);
  requireKnown('network', network, [...links.values()]);
  for (const { address } of Object.values(network)) checkAddress(address);
  return rewrite(text, ({ key, value }) => {
    const [, number = '', name = ''] = ofNetwork.exec(key) ?? [];
    const change = network[links.get(number) ?? ''];
    if (change === undefined) return value;
    if (name === 'link') return change.to ?? value;
    const family = /^ipv([46])\.(address|gateway)$/.exec(name);
    if (family === null) return value;
    const told = change.address !== undefined && change.address.includes(':') === (family[1] === '6');
    if (family[2] === 'address' && told) return withLength(change.address ?? '', value);
    return change.to === undefined ? value : ''; // a fixed address and its gateway belong to the old network
  });
}

/** Requires a line for each new address: a configuration without one has nothing to change. @throws PluginError invalid */
function requireAddressLines(text: string, network: NonNullable<Remap['network']>): void {
  const links = linksOf(text);
  for (const [name, { address }] of Object.entries(network)) {
    if (address === undefined) continue;
    const key = `ipv${address.includes(':') ? 6 : 4}.address`;
    const has = settings(text).some((one) => {
      const [, number = '', rest] = ofNetwork.exec(one.key) ?? [];
      return rest === key && links.get(number) === name;
    });
    if (!has) throw new PluginError('invalid', `remap.network gives ${name} the address ${address}, where the container has no fixed one`);
  }
}

/** The plan with its remap applied; a moved volume becomes a folder of the host. @throws PluginError invalid, unsupported */
export function applyRemap(plan: RestorePlan): RestorePlan {
  const { remap, description } = plan;
  if (remap === undefined) return plan;
  if (Object.keys(remap.ports ?? {}).length > 0) {
    throw new PluginError('unsupported', 'remap.ports: LXC publishes no ports; leave it out');
  }
  checkVolumes(
    remap.volumes,
    description.volume.map(({ name }) => name),
  );
  if (remap.network) requireAddressLines(description.native.text, remap.network);
  const moved = remap.network ? withNetworks(description.native.text, remap.network) : description.native.text;
  const text = remap.ids ? withIds(moved, remap.ids) : moved;
  const volume = description.volume.map((one) => (remap.volumes?.[one.name] === undefined ? one : { ...one, origin: 'host' as const }));
  return { ...plan, description: { ...description, volume, native: { ...description.native, text } } };
}
