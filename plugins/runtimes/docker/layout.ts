import { PluginError, type RestorePlan } from '../../../core/contract/index.js';
import { isTaken } from '../../shared/places.js';
import { newPlace } from '../../shared/remap.js';
import type { Client } from './client.js';
import { engine } from './engine.js';
import type { Inspect } from './inspect.js';
import { type NamedMount, namedMounts } from './mounts.js';
import { type Fields, fields, text } from './narrow.js';
import { type Place, planPlace } from './place.js';

interface Made {
  volume(name: string): Promise<void>;
  place(place: Place): Promise<void>;
}

export interface Layout {
  /** By source name. */
  readonly places: ReadonlyMap<string, Place>;
  /** By destination in the container. */
  readonly sources: ReadonlyMap<string, string>;
}

const volumePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** Whether the plan makes another container than the one that was backed up; it then shares no volume with it. */
const isClone = (plan: RestorePlan) => plan.container !== plan.description.name;

async function firstFree(base: string, taken: (name: string) => Promise<boolean>): Promise<string> {
  let name = base;
  for (let n = 2; await taken(name); n += 1) name = `${base}-${n}`;
  return name;
}

async function volumeName(client: Client, plan: RestorePlan, { volume, source_name }: NamedMount): Promise<string> {
  const taken = async (name: string) => (await engine.volumePath(client, name)) !== undefined;
  const other = plan.remap?.volumes?.[source_name];
  if (other !== undefined) {
    if (!volumePattern.test(other)) throw new PluginError('invalid', `remap.volumes: ${other} is no name of a Docker volume`);
    if (await taken(other)) throw new PluginError('exists', `remap.volumes: there is a volume ${other} already; give another name`);
    return other;
  }
  if (plan.action === 'replace') return isClone(plan) ? `${volume}-${plan.container}` : volume;
  if (!isClone(plan) && !(await taken(volume))) return volume;
  return firstFree(`${volume}-${plan.container}`, taken);
}

async function hostPath(plan: RestorePlan, { source: path, source_name }: NamedMount): Promise<string> {
  const other = plan.remap?.volumes?.[source_name];
  if (other !== undefined) return newPlace(source_name, other);
  if (plan.action === 'replace' && !isClone(plan)) return path;
  if (!(await isTaken(path))) return path;
  return firstFree(`${path}.${plan.container}`, isTaken);
}

/** Labels are kept: compose takes a volume without its own for somebody else's. Options are not: they may lead to a
 *  server's folder, which must not be filled anew. */
function labelsOf(inspect: Inspect, volume: string): Fields {
  return fields(inspect.beside.find((one) => text(one.Name) === volume && one.Mountpoint !== undefined)?.Labels);
}

interface NewVolume {
  readonly name: string;
  readonly labels: Fields;
  readonly excludes: readonly string[];
}

async function placeVolume(client: Client, { name, labels, excludes }: NewVolume, rand: string, made: Made): Promise<Place> {
  const path = await engine.volumePath(client, name);
  if (path !== undefined) return planPlace(path, 'folder', rand, excludes);
  await made.volume(name);
  const live = await engine.createVolume(client, name, labels);
  return { mode: 'direct', live, rand, had: false, names: [], madeParent: '', excludes: [] };
}

/** @throws PluginError invalid when the remap moves what the run does not hold */
function refuseMove(plan: RestorePlan, { source_name, type }: NamedMount): void {
  if (type === 'volume' || plan.remap?.volumes?.[source_name] === undefined) return;
  throw new PluginError('invalid', `remap.volumes: ${source_name} is not part of the backup and is mounted as it was`);
}

/** Decides where each mount of the new container lies, and makes the volumes. Each is told to `made` before it exists. */
export async function layOut(client: Client, plan: RestorePlan, inspect: Inspect, rand: string, made: Made): Promise<Layout> {
  const wanted = new Map(plan.sources.map((source) => [source.name, source]));
  const places = new Map<string, Place>();
  const sources = new Map<string, string>();
  const one = async (mount: NamedMount): Promise<void> => {
    const { kind, excludes = [] } = wanted.get(mount.source_name) ?? {};
    const labels = labelsOf(inspect, mount.volume);
    if (mount.type === 'volume') {
      const name = await volumeName(client, plan, mount);
      sources.set(mount.destination, name);
      if (kind !== undefined) places.set(mount.source_name, await placeVolume(client, { name, labels, excludes }, rand, made));
      else if ((await engine.volumePath(client, name)) === undefined) {
        await made.volume(name);
        await engine.createVolume(client, name, labels);
      }
    }
    if (mount.type !== 'bind' || kind === undefined) return refuseMove(plan, mount); // not backed up: mounted as it was
    const path = await hostPath(plan, mount);
    if (path !== mount.source) sources.set(mount.destination, path);
    places.set(mount.source_name, await planPlace(path, kind, rand, excludes));
  };
  for (const mount of namedMounts(inspect)) await one(mount);
  for (const place of places.values()) await made.place(place);
  return { places, sources };
}
