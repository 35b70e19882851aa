/** Checks that both runtimes make of a remap. */
import { lstat, readdir } from 'node:fs/promises';
import { isIP } from 'node:net';
import { isAbsolute, normalize } from 'node:path';
import { PluginError, type Remap } from '../../core/contract/index.js';

/** Names that a remap changes must be the container's. @throws PluginError invalid */
export function requireKnown(what: keyof Remap, asked: object | undefined, known: readonly string[]): void {
  for (const name of Object.keys(asked ?? {})) {
    if (known.includes(name)) continue;
    const there = known.length > 0 ? `it has ${known.join(', ')}` : 'it has none';
    throw new PluginError('invalid', `remap.${what} names ${name}, which the container does not have: ${there}`);
  }
}

/** Volumes that move are the container's, and each has a place of its own. @throws PluginError invalid */
export function checkVolumes(volumes: Remap['volumes'], known: readonly string[]): void {
  requireKnown('volumes', volumes, known);
  const places = Object.values(volumes ?? {});
  const twice = places.find((place, at) => places.indexOf(place) !== at);
  if (twice !== undefined) throw new PluginError('invalid', `remap.volumes sends two volumes to ${twice}`);
}

/** @throws PluginError invalid */
export function checkAddress(address: string | undefined): void {
  if (address === undefined || isIP(address) !== 0) return;
  throw new PluginError('invalid', `remap.network gives ${address}, which is no IP address`);
}

const systemPath = /^\/($|(lib[^/]*|usr|bin|sbin|etc|boot|proc|sys|dev|run|var\/run)(\/|$))/;

/** Whether something is there that a restore must not write into. */
export async function isTaken(path: string): Promise<boolean> {
  const there = await lstat(path).catch(() => undefined);
  return there !== undefined && !(there.isDirectory() && (await readdir(path)).length === 0);
}

/** The folder that a volume is moved to, in its normal form. @throws PluginError invalid, exists */
export async function newPlace(volume: string, path: string): Promise<string> {
  const clean = normalize(path).replace(/(?<=.)\/+$/, '');
  if (!isAbsolute(path) || path.split('/').includes('..') || systemPath.test(clean)) {
    throw new PluginError('invalid', `remap.volumes sends ${volume} to ${path}: give the whole path of a folder outside the system's own`);
  }
  if (await isTaken(clean))
    throw new PluginError('exists', `remap.volumes sends ${volume} to ${clean}, which is there and not empty; name another folder`);
  return clean;
}
