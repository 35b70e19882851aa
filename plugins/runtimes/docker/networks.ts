import { PluginError } from '../../../core/contract/index.js';
import type { Client } from './client.js';
import { orAbsent } from './engine.js';
import type { Inspect } from './inspect.js';
import { count, type Fields, fields, text } from './narrow.js';
import { userNetworks } from './recipe.js';

const asNumber = (address: string) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
const asAddress = (value: number) => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** The subnet that a fixed address needs. A stopped container's text has no prefix length: /24 then. */
export function subnetOf(endpoint: Fields): string | undefined {
  const fixed = text(fields(endpoint.IPAMConfig).IPv4Address);
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(fixed)) return undefined;
  const prefix = count(endpoint.IPPrefixLen) || 24;
  const size = 2 ** (32 - prefix);
  return `${asAddress(Math.floor(asNumber(fixed) / size) * size)}/${prefix}`;
}

/** Makes the network as the text tells it, else a plain bridge. */
async function createNetwork(client: Client, name: string, endpoint: Fields, told: Fields): Promise<void> {
  const { Driver = 'bridge', Internal = false, Attachable = false, EnableIPv6 = false, Options = {}, Labels = {}, IPAM } = told;
  const common = { Name: name, CheckDuplicate: true, Driver, Internal, Attachable, EnableIPv6, Options, Labels };
  const Subnet = subnetOf(endpoint);
  const Gateway = text(endpoint.Gateway);
  const needed = Subnet === undefined ? undefined : { Config: [{ Subnet, ...(Gateway && { Gateway }) }] };
  const create = (ipam: unknown) =>
    client.json('POST', '/networks/create', { body: { ...common, ...(ipam !== undefined && { IPAM: ipam }) } });
  try {
    await create(IPAM ?? needed);
  } catch (error) {
    // Its range is used by another network of this machine: a range of the engine's choice will do unless an address is fixed.
    if (IPAM === undefined || !(error instanceof PluginError && /overlap/i.test(error.message))) throw error;
    await create(needed);
  }
}

/** Makes the user's networks that are missing, each told to `made` before it exists. */
export async function ensureNetworks(client: Client, inspect: Inspect, made: (name: string) => Promise<void>): Promise<void> {
  for (const [name, endpoint] of userNetworks(inspect)) {
    if ((await orAbsent(client.json('GET', `/networks/${encodeURIComponent(name)}`))) !== undefined) continue;
    await made(name);
    const told = inspect.beside.find((one) => text(one.Name) === name && one.IPAM !== undefined);
    await createNetwork(client, name, endpoint, told ?? {});
  }
}

/** Running containers of the network and their addresses. */
export async function networkAddresses(client: Client, name: string): Promise<ReadonlyMap<string, string>> {
  const network = fields(await orAbsent(client.json('GET', `/networks/${encodeURIComponent(name)}`)));
  const members = Object.values(fields(network.Containers)).map(fields);
  return new Map(members.map((member) => [text(member.IPv4Address).split('/')[0] ?? '', text(member.Name)]));
}
