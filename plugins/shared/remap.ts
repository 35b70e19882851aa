/** Checks that both runtimes make of a remap. */
import { isIP } from 'node:net';
import { isAbsolute, normalize } from 'node:path';
import { PluginError, type Remap, type RestorePlan } from '../../core/contract/index.js';
import { isTaken } from './places.js';

/** Names that a remap changes must be the container's. @throws PluginError invalid */
export function requireKnown(what: keyof Remap, asked: object | undefined, known: readonly string[]): void {
  for (const name of Object.keys(asked ?? {})) {
    if (known.includes(name)) continue;
    const there = known.length > 0 ? `it has ${known.join(', ')}` : 'it has none';
    throw new PluginError('invalid', `remap.${what} names ${name}, which the container does not have: ${there}`);
  }
}

/** The first that is there twice. */
export const findRepeated = (names: readonly string[]): string | undefined => names.find((name, at) => names.indexOf(name) !== at);

/** Whether the container gets hardware addresses of its own: a clone does, unless the remap says otherwise. */
export function hasNewMacs({ container, description, remap }: RestorePlan): boolean {
  return remap?.mac === undefined ? container !== description.name : remap.mac === 'new';
}

/** Volumes that move are the container's, and each has a place of its own. @throws PluginError invalid */
export function checkVolumes(volumes: Remap['volumes'], known: readonly string[]): void {
  requireKnown('volumes', volumes, known);
  const twice = findRepeated(Object.values(volumes ?? {}));
  if (twice !== undefined) throw new PluginError('invalid', `remap.volumes sends two volumes to ${twice}`);
}

/** @throws PluginError invalid */
export function checkAddress(address: string | undefined): void {
  if (address === undefined || isIP(address) !== 0) return;
  throw new PluginError('invalid', `remap.network gives ${address}, which is no IP address`);
}

const systemPath = /^\/($|(lib[^/]*|usr|bin|sbin|etc|boot|proc|sys|dev|run|var\/run)(\/|$))/;

/** The folder that a remap names, in its normal form. @throws PluginError invalid */
export function remapPath(volume: string, path: string): string {
  const clean = normalize(path).replace(/(?<=.)\/+$/, '');
  if (isAbsolute(path) && !path.split('/').includes('..') && !systemPath.test(clean)) return clean;
  throw new PluginError('invalid', `remap.volumes sends ${volume} to ${path}: give the whole path of a folder outside the system's own`);
}

/** The folder that a volume is restored to, which must be free. @throws PluginError invalid, exists */
export async function newPlace(volume: string, path: string): Promise<string> {
  const clean = remapPath(volume, path);
  if (!(await isTaken(clean))) return clean;
  throw new PluginError(
    'exists',
    `remap.volumes sends ${volume} to ${clean}, which is there and not empty; name another folder, or leave ${volume} out of sources to have it mounted as it is`,
  );
}
