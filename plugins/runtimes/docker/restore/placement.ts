/** Decides for each mount of a restored container: restore, keep, join or copy. */
import type { Placement, PlannedPlace, RestorePlan, VolumeDescription, Warning } from '../../../../core/contract/index.js';
import { PluginError } from '../../../../core/contract/index.js';
import { within } from '../../../shared/paths.js';
import { firstFree, isClone, isPartial, placesOf } from '../../../shared/placement.js';
import { isTaken, present, realPath } from '../../../shared/presence.js';
import { remapPath, requireFreeFolder } from '../../../shared/remap.js';
import { overlap, type PlaceUser } from '../../../shared/swap/index.js';
import type { Client } from '../engine/client.js';
import { engine } from '../engine/engine.js';
import type { Inspect } from '../engine/inspect.js';
import { comesBack, volumeDescription } from '../engine/volumes.js';
import { type NamedMount, namedMounts } from '../mounts.js';
import { dockerUsers } from '../users.js';
import { droppedLabels } from './remap.js';

export interface Decision {
  readonly mount: NamedMount;
  readonly action: PlannedPlace['action'];
  /** The volume's name, or a path of the host. */
  readonly after: string;
  /** The run's source for it; undefined when it is mounted as it is. */
  readonly source?: RestorePlan['sources'][number];
  readonly described?: VolumeDescription;
  /** There is nothing to mount: the container is left stopped. */
  readonly missing: boolean;
  /** A kept mount of a clone: the clone must not write to another container's files. */
  readonly readOnly: boolean;
  readonly users: readonly PlaceUser[];
}

/** What a decision is based on. */
interface Ground {
  readonly client: Client;
  readonly plan: RestorePlan;
  /** The container at the backup. */
  readonly inspect: Inspect;
  /** The container to replace. */
  readonly current: Inspect | undefined;
  /** The mounts of other containers. */
  readonly users: readonly PlaceUser[];
  /** Decisions so far: outer folders come before inner ones. */
  readonly earlier: readonly Decision[];
}

const volumePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

const isVolume = ({ type }: NamedMount): boolean => type === 'volume';

/** The path of the mount's files on this machine; undefined when there are none. */
async function pathOf({ client }: Ground, mount: NamedMount, after: string): Promise<string | undefined> {
  if (isVolume(mount)) return engine.volumePath(client, after);
  const path = await realPath(after);
  return (await present(path)) ? path : undefined;
}

async function usersOf(ground: Ground, mount: NamedMount, after: string): Promise<readonly PlaceUser[]> {
  const path = isVolume(mount) ? await engine.volumePath(ground.client, after) : await realPath(after); // user.path has no symlinks
  return path === undefined ? [] : ground.users.filter((user) => overlap(user.path, path));
}

/** The volume or folder that the container to replace mounts there. */
function currentPlace({ current, plan }: Ground, mount: NamedMount): string | undefined {
  const its = current?.mounts.find((one) => one.destination === mount.destination && one.type === mount.type);
  if (its === undefined || plan.action === 'create') return undefined;
  return isVolume(mount) ? its.volume : its.source;
}

/** The volume or path that the mount had at the backup. */
const ownPlace = (mount: NamedMount): string => (isVolume(mount) ? mount.volume : mount.source);

/** A clone's own copy. A folder inside another copied folder goes with it. */
async function copyPlace(ground: Ground, mount: NamedMount): Promise<string> {
  const { client, plan, earlier } = ground;
  if (isVolume(mount)) {
    return firstFree(`${mount.volume}-${plan.container}`, async (name) => (await engine.volumePath(client, name)) !== undefined);
  }
  const outer = earlier.findLast((one) => one.source !== undefined && !isVolume(one.mount) && within(mount.source, one.mount.source));
  if (outer !== undefined && outer.after !== outer.mount.source) return outer.after + mount.source.slice(outer.mount.source.length);
  const isFree = !(await isTaken(mount.source)) && (await usersOf(ground, mount, mount.source)).length === 0;
  return isFree ? mount.source : firstFree(`${mount.source}.${plan.container}`, isTaken);
}

/** The volume or path that the client wants. @throws PluginError invalid, exists */
async function wantedPlace({ client }: Ground, mount: NamedMount, held: boolean, other: string): Promise<string> {
  if (!isVolume(mount)) return held ? requireFreeFolder(mount.source_name, other) : remapPath(mount.source_name, other);
  if (!volumePattern.test(other)) throw new PluginError('invalid', `remap.volumes: ${other} is no name of a Docker volume`);
  if (held && (await engine.volumePath(client, other)) !== undefined)
    throw new PluginError('exists', `remap.volumes: there is a volume ${other} already: give another name, or leave it out of sources`);
  return other;
}

type Choice = Pick<Decision, 'action' | 'after'>;

async function restoredPlace(ground: Ground, mount: NamedMount): Promise<Choice> {
  const { plan, current } = ground;
  const its = currentPlace(ground, mount);
  if (isPartial(plan)) {
    if (its !== undefined) return { after: its, action: 'restore' };
    const why = `${current?.name ?? plan.container} has nothing mounted at ${mount.destination}`;
    throw new PluginError('conflict', `${why}; restore it with rootfs, which brings the mount back`);
  }
  if (isClone(plan)) {
    const after = its ?? (await copyPlace(ground, mount));
    return { after, action: its !== undefined || after === ownPlace(mount) ? 'restore' : 'copy' };
  }
  const after = ownPlace(mount);
  const isShared = plan.action === 'create' && (await usersOf(ground, mount, after)).length > 0;
  return { after, action: isShared && (await pathOf(ground, mount, after)) !== undefined ? 'join' : 'restore' };
}

/** Whether the volume's options bring its files back once it is created. */
async function isMadeAnew({ plan, inspect }: Ground, mount: NamedMount, after: string): Promise<boolean> {
  return isVolume(mount) && !isClone(plan) && after === mount.volume && (await comesBack(volumeDescription(inspect, mount.volume)));
}

async function decide(ground: Ground, mount: NamedMount): Promise<Decision> {
  const { plan } = ground;
  const source = plan.sources.find(({ name }) => name === mount.source_name);
  const other = plan.remap?.volumes?.[mount.source_name];
  const described = plan.description.volume.find(({ name }) => name === mount.source_name);
  const wanted = other === undefined ? undefined : await wantedPlace(ground, mount, source !== undefined, other);
  let choice: Choice;
  if (source === undefined) choice = { action: 'keep', after: wanted ?? currentPlace(ground, mount) ?? ownPlace(mount) };
  else if (wanted !== undefined) choice = { action: 'copy', after: wanted };
  else choice = await restoredPlace(ground, mount);
  const isKept = choice.action === 'keep' && described !== undefined;
  const missing = isKept && (await pathOf(ground, mount, choice.after)) === undefined && !(await isMadeAnew(ground, mount, choice.after));
  const isOwn = wanted !== undefined || currentPlace(ground, mount) !== undefined;
  const readOnly = isKept && isClone(plan) && !isOwn;
  const users = await usersOf(ground, mount, choice.after);
  const restored = choice.action === 'restore' || choice.action === 'copy' ? source : undefined;
  return { mount, ...choice, missing, readOnly, users, ...(restored && { source: restored }), ...(described && { described }) };
}

/** The mount that shows the same files: same volume or path in the inspect text, or linked to the same folder at the backup. */
function mainOf({ description }: RestorePlan, mounts: readonly NamedMount[], mount: NamedMount): NamedMount | undefined {
  const { mountpoint } = description.volume.find(({ also_at = [] }) => also_at.includes(mount.destination)) ?? {};
  const isMain = (one: NamedMount) => (mountpoint === undefined ? ownPlace(one) === ownPlace(mount) : one.destination === mountpoint);
  const main = mounts.find((one) => one.type === mount.type && isMain(one));
  return main === mount ? undefined : main;
}

/** Where the second mount of the same files goes: its own path if that still leads there, else the main mount's. */
async function twinDecision(ground: Ground, mount: NamedMount, main: Decision): Promise<Decision> {
  const own = currentPlace(ground, mount) ?? ownPlace(mount);
  const hasWay = !isClone(ground.plan) && main.after === ownPlace(main.mount) && (await pathOf(ground, mount, own)) !== undefined;
  return { ...main, mount, after: hasWay ? own : main.after };
}

/** Decides for every mount, outer folders first. @throws PluginError invalid, exists */
export async function decidePlaces(client: Client, plan: RestorePlan, inspect: Inspect, current?: Inspect): Promise<readonly Decision[]> {
  const users = await dockerUsers(client, plan.container);
  const mounts = namedMounts(inspect).filter(({ type }) => type === 'volume' || type === 'bind');
  const outerFirst = mounts.map((mount, n) => ({ mount, n })).sort((a, b) => a.mount.source.length - b.mount.source.length || a.n - b.n);
  const decisions: Decision[] = [];
  const ground: Ground = { client, plan, inspect, current, users, earlier: decisions };
  const twins: { readonly mount: NamedMount; readonly main: NamedMount }[] = [];
  for (const { mount } of outerFirst) {
    const main = mainOf(plan, mounts, mount);
    if (main) twins.push({ mount, main });
    else decisions.push(await decide(ground, mount));
  }
  for (const { mount, main } of twins) {
    const known = decisions.find((one) => one.mount === main);
    decisions.push(known ? await twinDecision(ground, mount, known) : await decide(ground, mount));
  }
  return decisions;
}

/** A clone loses the labels of an orchestrator, which would treat it as one of its project's containers. */
function labelWarnings(plan: RestorePlan): Warning[] {
  const names = droppedLabels(plan);
  if (names.length === 0) return [];
  const message = `${plan.container} does not get the labels of ${plan.description.name} by which an orchestrator knows its own`;
  return [{ code: 'labels_dropped', message, fix: 'Nothing needs to be done', count: names.length, names: names.slice(0, 100) }];
}

/** The decisions as plan and result list them. */
export function placementOf(plan: RestorePlan, decisions: readonly Decision[]): Placement {
  const names = new Set(plan.description.volume.map(({ name }) => name));
  const volumes = decisions.filter(({ mount }) => names.has(mount.source_name));
  const decided = volumes.map(({ mount, action, after, users }) => ({
    source: mount.source_name,
    action,
    before: ownPlace(mount),
    after,
    users,
  }));
  return { places: placesOf(plan, decided), warnings: labelWarnings(plan) };
}
