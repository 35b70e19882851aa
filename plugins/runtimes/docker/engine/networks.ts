import { PluginError } from '../../../../core/contract/index.js';
import { orAbsent } from '../../../shared/presence.js';
import { userNetworks } from '../restore/create-request.js';
import type { Journal, SwapDeps } from '../restore/journal.js';
import type { Client } from './client.js';
import { engine } from './engine.js';
import { withEngineLock } from './engine-lock.js';
import type { Inspect } from './inspect.js';
import { count, type Fields, fields, text } from './json.js';

const asNumber = (address: string) => address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
const asAddress = (value: number) => [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');

/** The subnet of a fixed address. A stopped container's inspect text has no prefix length; then it is /24. */
export function subnetOf(endpoint: Fields): string | undefined {
  const fixed = text(fields(endpoint.IPAMConfig).IPv4Address);
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(fixed)) return undefined;
  const prefix = count(endpoint.IPPrefixLen) || 24;
  const size = 2 ** (32 - prefix);
  return `${asAddress(Math.floor(asNumber(fixed) / size) * size)}/${prefix}`;
}

/** Creates the network as the run describes it, else a plain bridge. */
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
    // Another network of this machine uses the range. Let the engine choose one, unless an address is fixed.
    if (IPAM === undefined || !(error instanceof PluginError && /overlap/i.test(error.message))) throw error;
    await create(needed);
  }
}

/** Creates the missing user networks. The journal names each before it exists, also one that another draft created: the draft
 *  discarded last removes it. */
export async function ensureNetworks({ client, stateFolder, journals }: SwapDeps, inspect: Inspect, journal: Journal, signal: AbortSignal) {
  const wanted = userNetworks(inspect);
  if (wanted.size === 0) return;
  await withEngineLock(stateFolder, 'networks', signal, async () => {
    const drafts = (await journals.others(journal)).filter(({ phase }) => phase !== 'done');
    for (const [name, endpoint] of wanted) {
      const present = (await orAbsent(client.json('GET', `/networks/${encodeURIComponent(name)}`))) !== undefined;
      if (present && !drafts.some(({ networks }) => networks.includes(name))) continue;
      journal.networks.push(name);
      await journals.write(journal);
      const told = inspect.beside.find((one) => text(one.Name) === name && one.IPAM !== undefined);
      if (!present) await createNetwork(client, name, endpoint, told ?? {});
    }
  });
}

/** Removes the networks that the draft created, except those that another draft or any container uses, running or stopped. */
export async function releaseNetworks({ client, stateFolder, journals }: SwapDeps, journal: Journal): Promise<void> {
  if (journal.networks.length === 0) return;
  await withEngineLock(stateFolder, 'networks', undefined, async () => {
    const used = new Set((await journals.others(journal)).flatMap(({ networks }) => networks));
    for (const row of await engine.containers(client)) {
      for (const name of Object.keys(fields(fields(row.NetworkSettings).Networks))) used.add(name);
    }
    for (const name of journal.networks) {
      if (!used.has(name)) await orAbsent(client.json('DELETE', `/networks/${encodeURIComponent(name)}`));
    }
    journal.networks = []; // under the lock: the draft discarded next must not count this journal as a user
    await journals.write(journal);
  });
}

/** Names of the network's running containers by address. */
export async function networkAddresses(client: Client, name: string): Promise<ReadonlyMap<string, string>> {
  const network = fields(await orAbsent(client.json('GET', `/networks/${encodeURIComponent(name)}`)));
  const members = Object.values(fields(network.Containers)).map(fields);
  return new Map(members.map((member) => [text(member.IPv4Address).split('/')[0] ?? '', text(member.Name)]));
}
