import { realpath, stat } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import type { Source, VolumeDescription } from '../../../core/contract/index.js';
import { literalPattern } from '../../shared/mounts.js';
import { within } from '../../shared/paths.js';
import { isSystemPath } from '../../shared/system-paths.js';
import { type MountEntry, mountEntry, rootOf, settings } from './config.js';

/** A bind-mounted folder or file that belongs to a backup; `kind` is undefined when it no longer exists. */
export interface Volume extends Omit<VolumeDescription, 'shared_with'> {
  readonly kind: Source['kind'] | undefined;
  /** Its path with symlinks resolved; as written when it no longer exists. */
  readonly real: string;
}

export interface Mounts {
  readonly volumes: readonly Volume[];
  readonly left_out: readonly { readonly path: string; readonly reason: string }[];
}

/** The mount point as an absolute path in the container. LXC reads it relative to the root, or absolute on the host. */
export function mountpointOf(entry: MountEntry, root: string | undefined): string {
  const inner = root !== undefined && within(entry.mountpoint, root) ? entry.mountpoint.slice(root.length) : entry.mountpoint;
  return normalize(`/${inner}`).replace(/(?<=.)\/$/, '');
}

/** A source's name from its mount point, different from the names in `taken`. */
function sourceName(mountpoint: string, taken: ReadonlySet<string>): string {
  const plain = mountpoint
    .replace(/^\/+/, '')
    .replace(/[^a-zA-Z0-9._]+/g, '-')
    .slice(0, 100);
  const base = /^[.-]*$/.test(plain) ? 'volume' : plain;
  for (let n = 1; ; n++) {
    const name = n === 1 ? base : `${base}-${n}`;
    if (!taken.has(name)) return name;
  }
}

/** Why the configuration rules an entry out as a volume; undefined when it may be one. */
function refusedByConfig(entry: MountEntry, own: string, root: string | undefined): string | undefined {
  if (!entry.options.includes('bind') && !entry.options.includes('rbind')) return `a ${entry.type} mount, created at each start`;
  if (!entry.source.startsWith('/')) return 'the source is not an absolute path';
  const source = normalize(entry.source).replace(/(?<=.)\/$/, '');
  if (root !== undefined && within(source, root)) return 'part of the root';
  if (within(own, source)) return 'it holds the container itself';
  if (!within(source, own) && isSystemPath(source)) return 'a system folder of the host';
  return undefined;
}

/** The kind of the mount's source, or the reason to leave it out. */
async function inspectSource(entry: MountEntry, own: string): Promise<{ kind?: Source['kind']; reason?: string; real?: string }> {
  try {
    const real = await realpath(entry.source);
    if (!within(entry.source, own) && isSystemPath(real)) return { reason: 'a system folder of the host' };
    const stats = await stat(real);
    if (stats.isDirectory()) return { kind: 'folder', real };
    return stats.isFile() ? { kind: 'file', real } : { reason: 'a socket, pipe or device' };
  } catch {
    return entry.options.includes('optional') ? { reason: 'optional, and missing' } : {};
  }
}

/** Sorts the mounts of a configuration into volumes and mounts left out. `own` is the container's folder. */
export async function mountsOf(text: string, own: string): Promise<Mounts> {
  const root = rootOf(text)?.path;
  const volumes: Volume[] = [];
  const left_out: { path: string; reason: string }[] = [];
  const taken = new Set(['rootfs', 'image', 'manifest']);
  for (const { key, value } of settings(text)) {
    if (key === 'lxc.mount.fstab') left_out.push({ path: value, reason: 'mounts in this file are not backed up' });
    if (key === 'lxc.include' && !value.startsWith('/usr/'))
      left_out.push({ path: value, reason: 'mounts in this file are not backed up' });
    if (key !== 'lxc.mount.entry') continue;
    const entry = mountEntry(value);
    if (entry === undefined) continue;
    const path = normalize(entry.source).replace(/(?<=.)\/$/, '');
    const outer = volumes.find((volume) => within(path, volume.path));
    const early = refusedByConfig(entry, own, root) ?? (outer && `part of the volume ${outer.name}`);
    const { kind, reason = early, real = path } = early === undefined ? await inspectSource(entry, own) : {};
    if (reason !== undefined) {
      left_out.push({ path: entry.source, reason });
      continue;
    }
    const mountpoint = mountpointOf(entry, root);
    const twin = volumes.findIndex((volume) => volume.kind !== undefined && volume.real === real);
    const first = volumes[twin];
    if (first !== undefined) {
      volumes[twin] = { ...first, also_at: [...(first.also_at ?? []), mountpoint] }; // the same folder by a symlink: stored once
      continue;
    }
    const name = sourceName(mountpoint, taken);
    taken.add(name);
    const read_only = entry.options.includes('ro');
    volumes.push({ kind, mountpoint, name, origin: within(path, own) ? 'new' : 'host', path, read_only, real });
  }
  return withoutNested(volumes, left_out);
}

/** Drops volumes inside other ones, which would be stored and swapped twice. */
function withoutNested(volumes: readonly Volume[], left_out: readonly { path: string; reason: string }[]): Mounts {
  const outerOf = (inner: Volume) => volumes.find((outer) => outer !== inner && within(inner.path, outer.path));
  const nested = volumes.filter(outerOf).map((inner) => ({ path: inner.path, reason: `part of the volume ${outerOf(inner)?.name}` }));
  return { left_out: [...left_out, ...nested], volumes: volumes.filter((volume) => outerOf(volume) === undefined) };
}

/** Patterns for volumes inside this one that only resolved symlinks reveal: each is stored apart. Form of Source.excludes. */
export const isStoredApart = ({ real }: Volume, volumes: readonly Volume[]): string[] =>
  volumes.filter((inner) => inner.real !== real && within(inner.real, real)).map((inner) => literalPattern(inner.real, real));

/** Host paths that a configuration binds into its container. */
export function bindSources(text: string): string[] {
  return settings(text).flatMap(({ key, value }) => {
    const entry = key === 'lxc.mount.entry' ? mountEntry(value) : undefined;
    return entry?.source.startsWith('/') ? [normalize(join(entry.source, '.'))] : [];
  });
}
