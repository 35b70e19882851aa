import { PluginError, type RestorePlan } from '../../../../core/contract/index.js';
import { isClone } from '../../../shared/placement.js';
import { type Place, planPlace } from '../../../shared/swap/index.js';
import type { Client } from '../engine/client.js';
import { engine } from '../engine/engine.js';
import type { Inspect } from '../engine/inspect.js';
import { type Fields, fields } from '../engine/json.js';
import { makeVolume, placeNewVolume, refuseServerVolume, volumeDescription } from '../engine/volumes.js';
import type { MountSource } from './create-request.js';
import type { Decision } from './placement.js';
import { foreignLabels } from './remap.js';

export interface Layout {
  /** By source name; outer folders come first. */
  readonly places: ReadonlyMap<string, Place>;
  /** By destination in the container; only mounts that differ from the inspect text. */
  readonly sources: ReadonlyMap<string, MountSource>;
}

interface Made {
  volume(name: string): Promise<void>;
}

/** Labels stay, because compose treats a volume without them as foreign. A clone's volume loses those of a project. */
function labelsOf(told: Fields, clone: boolean): Fields {
  const labels = fields(told.Labels);
  return Object.fromEntries(Object.entries(labels).filter(([name]) => !clone || !foreignLabels.test(name)));
}

interface LayoutPlan {
  readonly plan: RestorePlan;
  readonly inspect: Inspect;
  readonly decisions: readonly Decision[];
  readonly id: string;
}

/** Finds the place of each mount as decided, and creates the missing volumes. Calls `made` before each volume exists.
 *  @throws PluginError unsupported, damaged */
export async function planPlaces(client: Client, { plan, inspect, decisions, id }: LayoutPlan, made: Made): Promise<Layout> {
  const places = new Map<string, Place>();
  const sources = new Map<string, MountSource>();
  for (const decision of decisions) {
    const { mount, after, readOnly, described } = decision;
    const source = decision.source?.name === mount.source_name ? decision.source : undefined; // once, even if it is mounted twice
    if (after !== (mount.type === 'volume' ? mount.volume : mount.source) || readOnly) sources.set(mount.destination, { after, readOnly });
    const name = mount.source_name;
    const planned = { id: `${id}-${places.size}`, known: described?.parents ?? [], ...(source?.excludes && { excludes: source.excludes }) };
    if (mount.type === 'bind') {
      if (source) places.set(name, await planPlace(after, source.kind, planned));
      continue;
    }
    const path = await engine.volumePath(client, after);
    if (path !== undefined && source) {
      await refuseServerVolume(client, after);
      places.set(name, await planPlace(path, 'folder', planned));
    }
    if (path !== undefined) continue;
    await made.volume(after);
    const told = volumeDescription(inspect, mount.volume);
    const same = !isClone(plan) && after === mount.volume;
    await makeVolume(client, { name: after, told, labels: labelsOf(told, isClone(plan)), same, held: source !== undefined });
    if (source) places.set(name, await placeNewVolume(client, after, planned));
  }
  refuseStrangers(plan, places);
  return { places: new Map([...places].sort(([, a], [, b]) => a.live.length - b.live.length)), sources };
}

/** @throws PluginError damaged: the run holds a source that its container does not have */
function refuseStrangers(plan: RestorePlan, places: ReadonlyMap<string, Place>): void {
  const unknown = plan.sources.find(
    ({ name }) => name !== 'rootfs' && !places.has(name) && !plan.description.volume.some((one) => one.name === name),
  );
  if (unknown) throw new PluginError('damaged', `the description of ${plan.description.name} has no volume named ${unknown.name}`);
}
