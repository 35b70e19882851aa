/** References of a container to other containers. The engine stores ids, and an id ends with its container. So a backup stores
 *  names, and a restore looks the containers up by name. */
import { type Conflict, PluginError, type RestorePlan } from '../../../../core/contract/index.js';
import { orAbsent } from '../../../shared/presence.js';
import type { Client } from '../engine/client.js';
import { engine } from '../engine/engine.js';
import { type Inspect, isHidden, nameOf, stateInList, visibleName } from '../engine/inspect.js';
import { type Fields, fields, text, texts } from '../engine/json.js';

/** HostConfig's fields of the form `container:<name or id>`, and what the container shares by each. */
const modes: readonly (readonly [string, string])[] = [
  ['NetworkMode', 'network'],
  ['PidMode', 'processes'],
  ['IpcMode', 'shared memory'],
];

const prefix = 'container:';

/** The container that a mode names; '' for none. */
const sharedWith = (mode: unknown): string => (text(mode).startsWith(prefix) ? text(mode).slice(prefix.length) : '');

const namesIt = (row: Fields, ref: string): boolean =>
  nameOf(row) === ref || (/^[0-9a-f]{12,64}$/.test(ref) && text(row.Id).startsWith(ref));

/** Every container that the inspect text names, in its spelling. */
function namedIn(all: Fields): readonly string[] {
  const host = fields(all.HostConfig);
  const endpoints = Object.values(fields(fields(all.NetworkSettings).Networks)).map(fields);
  const lists = [...texts(host.VolumesFrom), ...endpoints.flatMap(({ Links }) => texts(Links))];
  return [...modes.map(([field]) => sharedWith(host[field])), ...lists.map((one) => one.split(':')[0] ?? '')].filter(Boolean);
}

/** The inspect text with names instead of ids; HostConfig.Links has names already. An id that no container has stays. */
export async function withNames(client: Client, native: string): Promise<string> {
  const all = fields(JSON.parse(native));
  const named = namedIn(all);
  if (named.length === 0) return native;
  const rows = await engine.containers(client);
  const names = new Map(named.map((ref) => [ref, visibleName(nameOf(rows.find((row) => namesIt(row, ref)) ?? {})) || ref]));
  const rename = (list: unknown) =>
    Array.isArray(list) ? texts(list).map((one) => one.replace(/^[^:]+/, (ref) => names.get(ref) ?? ref)) : list;
  const host = fields(all.HostConfig);
  const shared = modes.flatMap(([field]) => {
    const name = names.get(sharedWith(host[field]));
    return name === undefined ? [] : [[field, prefix + name]];
  });
  const settings = fields(all.NetworkSettings);
  const networks = Object.entries(fields(settings.Networks)).map(([name, one]) => [
    name,
    { ...fields(one), Links: rename(fields(one).Links) },
  ]);
  return JSON.stringify({
    ...all,
    HostConfig: { ...host, ...Object.fromEntries(shared), VolumesFrom: rename(host.VolumesFrom) },
    NetworkSettings: { ...settings, Networks: Object.fromEntries(networks) },
  });
}

interface Lack extends Conflict {
  /** Whether the engine refuses to create the container, rather than to start it. */
  readonly uncreatable: boolean;
}

/** Containers that this one needs and that are missing or stopped. */
async function lacks(client: Client, inspect: Inspect): Promise<readonly Lack[]> {
  const links = texts(inspect.host.Links).map((link) => (link.split(':')[0] ?? '').replace(/^\//, ''));
  const shared = modes.map(([field, what]) => ({ ref: sharedWith(inspect.host[field]), what: `shares the ${what} of`, field }));
  const needed = [...shared, ...links.map((ref) => ({ ref, what: 'has a link to', field: 'Links' }))].filter(({ ref }) => ref !== '');
  if (needed.length === 0) return [];
  const rows = (await engine.containers(client)).filter((row) => !isHidden(nameOf(row)));
  return needed.flatMap(({ ref, what, field }) => {
    const row = rows.find((one) => namesIt(one, ref));
    const code = row === undefined ? 'reference_missing' : 'reference_stopped';
    if (row !== undefined && (field === 'Links' || stateInList(row.State) !== 'stopped')) return [];
    const state = row === undefined ? 'is not there' : 'does not run';
    const fix = row === undefined ? `Restore ${ref}, or make it` : `Start ${ref}`;
    return [{ code, what: `It ${what} ${ref}, which ${state}`, fix, uncreatable: row === undefined && field !== 'NetworkMode' }];
  });
}

/** Containers that must exist, or run, before this one can start. */
export async function referenceConflicts(client: Client, inspect: Inspect): Promise<readonly Conflict[]> {
  return (await lacks(client, inspect)).map(({ code, what, fix }) => ({ code, what, fix }));
}

/** Refuses a plan that must fail for a missing or stopped container: the engine would not create the new container, or would not
 *  start it in place of a running one. @throws PluginError conflict */
export async function refuseLacks(client: Client, plan: RestorePlan, inspect: Inspect): Promise<void> {
  const found = await lacks(client, inspect);
  const runs = found.length > 0 && plan.action === 'replace' && (await engine.inspect(client, plan.container)).state !== 'stopped';
  const [first] = runs ? found : found.filter(({ uncreatable }) => uncreatable);
  if (first) throw new PluginError('conflict', `${first.what}: ${first.fix}, then restore again`);
}

/** Containers that refer to the replaced one by id, or link to it: they cannot start again, or lose the link. */
export async function dependentConflicts(client: Client, container: string): Promise<readonly Conflict[]> {
  const rows = (await engine.containers(client)).filter((row) => !isHidden(nameOf(row)));
  const replaced = rows.find((row) => nameOf(row) === container);
  if (replaced === undefined) return [];
  const found: Conflict[] = [];
  for (const row of rows) {
    const name = nameOf(row);
    const host = (await orAbsent(engine.inspect(client, text(row.Id))))?.host ?? {};
    const shared = modes.filter(([field]) => sharedWith(host[field]) === text(replaced.Id)).map(([, what]) => what);
    const why =
      shared.length > 0 ? `shares the ${shared.join(', ')} of ${container} by its id and cannot start again once it is replaced` : '';
    const linked = texts(replaced.Names).some((alias) => alias.startsWith(`/${name}/`)) ? `has a link to ${container} and loses it` : '';
    if (why === '' && linked === '') continue;
    const fix = `Restore ${name} from a backup afterwards, or make it anew (docker compose up --force-recreate)`;
    found.push({ code: 'dependent', what: `${name} ${why || linked}`, fix });
  }
  return found;
}
