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

/** Makes the user's networks that are missing, each told to `made` before it exists. */
export async function ensureNetworks(client: Client, inspect: Inspect, made: (name: string) => Promise<void>): Promise<void> {
  for (const [name, endpoint] of userNetworks(inspect)) {
    if ((await orAbsent(client.json('GET', `/networks/${encodeURIComponent(name)}`))) !== undefined) continue;
    await made(name);
    const Subnet = subnetOf(endpoint);
    const Gateway = text(endpoint.Gateway);
    const IPAM = Subnet === undefined ? undefined : { Config: [{ Subnet, ...(Gateway && { Gateway }) }] };
    await client.json('POST', '/networks/create', { body: { Name: name, CheckDuplicate: true, Driver: 'bridge', ...(IPAM && { IPAM }) } });
  }
}

/** Running containers of the network and their addresses. */
export async function networkAddresses(client: Client, name: string): Promise<ReadonlyMap<string, string>> {
  const network = fields(await orAbsent(client.json('GET', `/networks/${encodeURIComponent(name)}`)));
  const members = Object.values(fields(network.Containers)).map(fields);
  return new Map(members.map((member) => [text(member.IPv4Address).split('/')[0] ?? '', text(member.Name)]));
}
