/** Checks of a remap that both runtimes need. */
import { isIP } from 'node:net';
import { isAbsolute, normalize } from 'node:path';
import { PluginError, type Remap, type RestorePlan } from '../../core/contract/index.js';
import { isTaken } from './presence.js';
import { isReservedPath } from './system-paths.js';

/** Refuses a remap of names that the container does not have. @throws PluginError invalid */
export function requireKnown(what: keyof Remap, asked: object | undefined, known: readonly string[]): void {
  for (const name of Object.keys(asked ?? {})) {
    if (known.includes(name)) continue;
    const there = known.length > 0 ? `it has ${known.join(', ')}` : 'it has none';
    throw new PluginError('invalid', `remap.${what} names ${name}, which the container does not have: ${there}`);
  }
}

/** The first name that occurs twice. */
export const findRepeated = (names: readonly string[]): string | undefined => names.find((name, at) => names.indexOf(name) !== at);

/** Whether the container gets new MAC addresses: a clone does, unless the remap says otherwise. */
export function hasNewMacs({ container, description, remap }: RestorePlan): boolean {
  return remap?.mac === undefined ? container !== description.name : remap.mac === 'new';
}

/** Refuses unknown volumes, and two volumes in one folder. @throws PluginError invalid */
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

/** The folder that a remap names, normalized. @throws PluginError invalid */
export function remapPath(volume: string, path: string): string {
  const clean = normalize(path).replace(/(?<=.)\/+$/, '');
  if (isAbsolute(path) && !path.split('/').includes('..') && !isReservedPath(clean)) return clean;
  throw new PluginError('invalid', `remap.volumes sends ${volume} to ${path}: give the whole path of a folder outside the system's own`);
}

/** The folder to restore a volume to; it must be missing or empty. @throws PluginError invalid, exists */
export async function requireFreeFolder(volume: string, path: string): Promise<string> {
  const clean = remapPath(volume, path);
  if (!(await isTaken(clean))) return clean;
  throw new PluginError(
    'exists',
    `remap.volumes sends ${volume} to ${clean}, which exists and is not empty; name another folder, or leave ${volume} out of sources to mount it as it is`,
  );
}
