import { readFile } from 'node:fs/promises';
import type { Conflict, Preview, RestorePlan } from '../../../../core/contract/index.js';
import { type MissingMount, missingConflicts, userConflicts } from '../../../shared/conflicts.js';
import type { Client } from '../engine/client.js';
import { engine } from '../engine/engine.js';
import { type Inspect, nameOf } from '../engine/inspect.js';
import { count, fields, items, text } from '../engine/json.js';
import { networkAddresses } from '../engine/networks.js';
import { volumeKindConflicts } from '../engine/volumes.js';
import { userNetworks } from './create-request.js';
import { type Decision, decidePlaces, placementOf } from './placement.js';
import { dependentConflicts, referenceConflicts } from './references.js';
import { applyRemap } from './remap.js';

interface Port {
  readonly protocol: string;
  readonly port: number;
}

const key = ({ protocol, port }: Port) => `${protocol}/${port}`;

function publishedPorts(inspect: Inspect): readonly Port[] {
  return Object.entries(fields(inspect.host.PortBindings)).flatMap(([inside, bindings]) =>
    items(bindings).flatMap((binding) => {
      const port = Number.parseInt(text(fields(binding).HostPort), 10);
      return port > 0 ? [{ protocol: inside.split('/')[1] ?? 'tcp', port }] : []; // port 0: the engine chooses a free one
    }),
  );
}

/** Ports of running containers, with the container's name. */
async function enginePorts(client: Client): Promise<ReadonlyMap<string, string>> {
  const held = new Map<string, string>();
  for (const container of await engine.containers(client)) {
    if (text(container.State) === 'exited' || text(container.State) === 'created') continue;
    const name = nameOf(container);
    for (const port of items(container.Ports).map(fields)) {
      if (count(port.PublicPort) > 0) held.set(key({ protocol: text(port.Type), port: count(port.PublicPort) }), name);
    }
  }
  return held;
}

/** Ports on which processes of this machine listen. A bind to one address counts, since it blocks a publish to all addresses. */
async function listeningPorts(): Promise<ReadonlySet<string>> {
  const held = new Set<string>();
  for (const table of ['tcp', 'tcp6', 'udp', 'udp6']) {
    const lines = (await readFile(`/proc/net/${table}`, 'utf8').catch(() => '')).split('\n').slice(1);
    for (const line of lines) {
      const [, local = '', , state] = line.trim().split(/\s+/);
      const protocol = table.slice(0, 3);
      const listens = protocol === 'tcp' ? state === '0A' : state === '07';
      if (listens) held.add(key({ protocol, port: Number.parseInt(local.split(':')[1] ?? '', 16) }));
    }
  }
  return held;
}

/** Conflicts that keep the container from starting. Ports and addresses of the container `replaced` count as free. */
export async function startConflicts(client: Client, inspect: Inspect, replaced: string): Promise<readonly Conflict[]> {
  const found: Conflict[] = [];
  const [engineHeld, listening] = await Promise.all([enginePorts(client), listeningPorts()]);
  for (const port of publishedPorts(inspect)) {
    const owner = engineHeld.get(key(port));
    if (owner === replaced && replaced !== '') continue;
    if (owner === undefined && !listening.has(key(port))) continue;
    const holder = owner === undefined ? 'a process of this machine' : `container ${owner}`;
    found.push({ code: 'port_taken', what: `Port ${key(port)} is held by ${holder}`, fix: `Stop ${holder} or publish another port` });
  }
  for (const [network, endpoint] of userNetworks(inspect)) {
    const address = text(fields(fields(endpoint).IPAMConfig).IPv4Address);
    const owner = address === '' ? undefined : (await networkAddresses(client, network)).get(address);
    if (owner === undefined || owner === replaced) continue;
    found.push({
      code: 'address_taken',
      what: `Address ${address} in ${network} is held by ${owner}`,
      fix: `Stop ${owner} or give another address`,
    });
  }
  return [...found, ...(await referenceConflicts(client, inspect))];
}

/** Mounts whose volume or folder is missing. */
export const missingMounts = (decisions: readonly Decision[]): MissingMount[] =>
  decisions
    .filter(({ missing }) => missing)
    .map(({ mount, after }) => ({ after, mountpoint: mount.destination, source: mount.source_name }));

/** What committing the plan does with each mount, and all conflicts. */
export async function previewPlan(client: Client, plan: RestorePlan): Promise<Omit<Preview, 'grants'>> {
  const inspect = applyRemap(plan);
  const containers = await engine.containers(client);
  const present = containers.some((container) => nameOf(container) === plan.container);
  const found: Conflict[] = [];
  if (plan.action === 'create' && present) {
    found.push({ code: 'name_taken', what: `A container named ${plan.container} exists`, fix: 'Replace it or choose another name' });
  }
  if (plan.action === 'replace' && !present) {
    found.push({ code: 'name_missing', what: `There is no container named ${plan.container}`, fix: 'Create it instead' });
  }
  found.push(...(await volumeKindConflicts(client, plan, inspect)));
  const replaced = plan.action === 'replace' ? plan.container : '';
  const current = present ? await engine.inspect(client, plan.container) : undefined;
  const decisions = await decidePlaces(client, plan, inspect, current);
  found.push(...userConflicts(decisions), ...missingConflicts(missingMounts(decisions)));
  if (plan.action === 'replace') found.push(...(await dependentConflicts(client, plan.container)));
  found.push(...(await startConflicts(client, inspect, replaced)));
  return { conflicts: found, ...placementOf(plan, decisions) };
}
