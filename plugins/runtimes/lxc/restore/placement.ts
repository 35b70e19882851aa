/** Decides for each volume of a restored container: restore, keep, join or copy. */
import { dirname, join, normalize } from 'node:path';
import {
  type Placement,
  type PlannedPlace,
  PluginError,
  type RestorePlan,
  type VolumeDescription,
} from '../../../../core/contract/index.js';
import { within } from '../../../shared/paths.js';
import { firstFree, isClone, isPartial, placesOf } from '../../../shared/placement.js';
import { isTaken, present, realPath } from '../../../shared/presence.js';
import { remapPath, requireFreeFolder } from '../../../shared/remap.js';
import { overlap, type PlaceUser } from '../../../shared/swap/index.js';
import { rootOf } from '../config.js';
import { mountsOf, type Volume } from '../volumes.js';

export interface Decision {
  readonly volume: VolumeDescription;
  readonly action: PlannedPlace['action'];
  readonly after: string;
  /** The run's source for it; undefined when it is mounted as it is. */
  readonly source?: RestorePlan['sources'][number];
  /** A kept mount of a clone: the clone must not write to another container's files. */
  readonly readOnly: boolean;
  readonly users: readonly PlaceUser[];
}

/** What a decision is based on. */
export interface Ground {
  readonly plan: RestorePlan;
  /** Folder of the container to create or replace. */
  readonly folder: string;
  /** The configuration of the container to replace. */
  readonly current: string | undefined;
  /** The mounts of other containers. */
  readonly users: readonly PlaceUser[];
  /** For temporary files. */
  readonly workFolder: string;
}

/** The volume's path relative to the container's folder at the backup. */
function innerPath(plan: RestorePlan, volume: VolumeDescription): string {
  const root = rootOf(plan.description.native.text);
  const own = root?.backing === 'dir' ? dirname(root.path) : undefined;
  if (own !== undefined && within(volume.path, own)) return volume.path.slice(own.length + 1);
  const mark = `/${plan.description.name}/`;
  const at = volume.path.indexOf(mark);
  return at < 0 ? join('volumes', volume.name) : volume.path.slice(at + mark.length);
}

/** @throws PluginError invalid */
function ownPath({ plan, folder }: Ground, volume: VolumeDescription): string {
  const path = normalize(join(folder, innerPath(plan, volume)));
  if (path === folder || !within(path, folder)) throw new PluginError('invalid', `volume ${volume.name} leads out of the container`);
  if (path === join(folder, 'config') || within(path, join(folder, 'rootfs')))
    throw new PluginError(
      'damaged',
      `volume ${volume.name} lies inside the root of ${plan.container}, or in the place of its configuration`,
    );
  return path;
}

type Choice = Pick<Decision, 'action' | 'after'>;

const usersOf = async ({ users }: Ground, path: string): Promise<readonly PlaceUser[]> => {
  const real = await realPath(path);
  return users.filter((user) => overlap(user.path, real));
};

/** A folder of a container that comes back under its old name: joined if another container uses it by now, else restored. */
async function comingBack(ground: Ground, after: string): Promise<Choice> {
  const isLeft = ground.plan.action === 'create' && (await present(await realPath(after)));
  return { action: isLeft && (await usersOf(ground, after)).length > 0 ? 'join' : 'restore', after };
}

/** Where a restored folder of the host goes. `its`: the path that the container to replace mounts there. */
async function restoredPlace(ground: Ground, volume: VolumeDescription, its: string | undefined): Promise<Choice> {
  const { plan } = ground;
  if (isPartial(plan) && its === undefined) {
    const why = `${plan.container} has nothing mounted at ${volume.mountpoint}`;
    throw new PluginError('conflict', `${why}; restore it with rootfs, which brings the mount back`);
  }
  if (its !== undefined && (isClone(plan) || isPartial(plan))) return { action: 'restore', after: its };
  const { path } = volume;
  if (!isClone(plan)) return comingBack(ground, path);
  if (!(await isTaken(path)) && (await usersOf(ground, path)).length === 0) return { action: 'restore', after: path };
  return { action: 'copy', after: await firstFree(`${path}.${plan.container}`, isTaken) };
}

async function decide(ground: Ground, volume: VolumeDescription, current: readonly Volume[]): Promise<Decision> {
  const { plan } = ground;
  const source = plan.sources.find(({ name }) => name === volume.name);
  const other = plan.remap?.volumes?.[volume.name];
  const there = current.filter(({ mountpoint }) => mountpoint === volume.mountpoint);
  const its = (there.find(({ name }) => name === volume.name) ?? there[0])?.path;
  let choice: Choice;
  if (other !== undefined) {
    const after = source === undefined ? remapPath(volume.name, other) : await requireFreeFolder(volume.name, other);
    choice = { action: source === undefined ? 'keep' : 'copy', after };
  } else if (volume.origin === 'new' && !isPartial(plan)) {
    const after = ownPath(ground, volume);
    choice = source === undefined ? { action: 'keep', after } : await comingBack(ground, after);
  } else if (source === undefined) choice = { action: 'keep', after: its ?? volume.path };
  else choice = await restoredPlace(ground, volume, its);
  const isOwn = other !== undefined || its !== undefined || volume.origin === 'new';
  const readOnly = choice.action === 'keep' && isClone(plan) && !isOwn;
  const restored = choice.action === 'restore' || choice.action === 'copy' ? source : undefined;
  return { volume, ...choice, readOnly, users: await usersOf(ground, choice.after), ...(restored && { source: restored }) };
}

/** Decides for every volume of the description, outer folders first. @throws PluginError invalid, exists */
export async function decidePlaces(ground: Ground): Promise<readonly Decision[]> {
  const { plan, current, folder } = ground;
  const volumes = current === undefined ? [] : (await mountsOf(current, folder)).volumes;
  const decisions: Decision[] = [];
  const real = new Map<VolumeDescription, string>();
  for (const volume of plan.description.volume) real.set(volume, await realPath(volume.path));
  const depth = (volume: VolumeDescription) => real.get(volume)?.length ?? 0;
  for (const volume of plan.description.volume.toSorted((a, b) => depth(a) - depth(b))) {
    decisions.push(await decide(ground, volume, plan.action === 'replace' ? volumes : []));
  }
  return decisions;
}

/** The decisions as plan and result list them. */
export function placementOf(plan: RestorePlan, decisions: readonly Decision[]): Placement {
  const decided = decisions.map(({ volume, action, after, users }) => ({ source: volume.name, action, before: volume.path, after, users }));
  return { places: placesOf(plan, decided), warnings: [] };
}
