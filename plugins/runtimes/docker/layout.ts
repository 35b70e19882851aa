import { readdir } from 'node:fs/promises';
import type { RestorePlan } from '../../../core/contract/index.js';
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

/** Whether the plan makes another container than the one that was backed up; it then shares no volume with it. */
const isClone = (plan: RestorePlan) => plan.container !== plan.description.name;

async function isTaken(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length > 0;
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ENOENT'); // a file is taken, too
  }
}

async function firstFree(base: string, taken: (name: string) => Promise<boolean>): Promise<string> {
  let name = base;
  for (let n = 2; await taken(name); n += 1) name = `${base}-${n}`;
  return name;
}

async function volumeName(client: Client, plan: RestorePlan, volume: string): Promise<string> {
  const taken = async (name: string) => (await engine.volumePath(client, name)) !== undefined;
  if (plan.action === 'replace') return isClone(plan) ? `${volume}-${plan.container}` : volume;
  if (!isClone(plan) && !(await taken(volume))) return volume;
  return firstFree(`${volume}-${plan.container}`, taken);
}

async function hostPath(plan: RestorePlan, path: string): Promise<string> {
  if (plan.action === 'replace' && !isClone(plan)) return path;
  if (!(await isTaken(path))) return path;
  return firstFree(`${path}.${plan.container}`, isTaken);
}

/** Labels are kept: compose takes a volume without its own for somebody else's. Options are not: they may lead to a
 *  server's folder, which must not be filled anew. */
function labelsOf(inspect: Inspect, volume: string): Fields {
  return fields(inspect.beside.find((one) => text(one.Name) === volume && one.Mountpoint !== undefined)?.Labels);
}

async function placeVolume(client: Client, name: string, labels: Fields, rand: string, made: Made): Promise<Place> {
  const path = await engine.volumePath(client, name);
  if (path !== undefined) return planPlace(path, 'folder', rand);
  await made.volume(name);
  const live = await engine.createVolume(client, name, labels);
  return { mode: 'direct', live, rand, had: false, names: [], madeParent: '' };
}

/** Decides where each mount of the new container lies, and makes the volumes. Each is told to `made` before it exists. */
export async function layOut(client: Client, plan: RestorePlan, inspect: Inspect, rand: string, made: Made): Promise<Layout> {
  const wanted = new Map(plan.sources.map((source) => [source.name, source.kind]));
  const places = new Map<string, Place>();
  const sources = new Map<string, string>();
  const one = async (mount: NamedMount): Promise<void> => {
    const kind = wanted.get(mount.source_name);
    if (mount.type === 'volume') {
      const name = await volumeName(client, plan, mount.volume);
      sources.set(mount.destination, name);
      if (kind !== undefined) places.set(mount.source_name, await placeVolume(client, name, labelsOf(inspect, mount.volume), rand, made));
      else if ((await engine.volumePath(client, name)) === undefined) {
        await made.volume(name);
        await engine.createVolume(client, name, labelsOf(inspect, mount.volume));
      }
    }
    if (mount.type !== 'bind' || kind === undefined) return; // not backed up: mounted as it was
    const path = await hostPath(plan, mount.source);
    if (path !== mount.source) sources.set(mount.destination, path);
    places.set(mount.source_name, await planPlace(path, kind, rand));
  };
  for (const mount of namedMounts(inspect)) await one(mount);
  for (const place of places.values()) await made.place(place);
  return { places, sources };
}
