import { lstat, realpath, stat } from 'node:fs/promises';
import { PluginError, type Source } from '../../../core/contract/index.js';
import { literalPattern } from '../../shared/mounts.js';
import { within } from '../../shared/paths.js';
import { isSystemPath } from '../../shared/system-paths.js';
import type { Inspect, Mount } from './engine/inspect.js';

export interface NamedMount extends Mount {
  /** The source's name. */
  readonly source_name: string;
}

function sanitized(name: string): string {
  const clean = name
    .replace(/^\/+/, '')
    .replace(/[^a-zA-Z0-9._-]+/g, '-')
    .slice(0, 120);
  return /^\.*$/.test(clean) ? `folder${clean.length}` : clean;
}

/** Gives each mount its source name. Only the inspect text decides it, so that a restore on another machine finds the same
 *  names. */
export function namedMounts(inspect: Inspect): readonly NamedMount[] {
  const taken = new Set(['rootfs']);
  return inspect.mounts.map((mount) => {
    const base = sanitized(mount.volume || mount.source || mount.destination);
    let name = base;
    for (let n = 2; taken.has(name); n += 1) name = `${base}-${n}`;
    taken.add(name);
    return { ...mount, source_name: name };
  });
}

export type ClassifiedMount =
  | { readonly mount: NamedMount; readonly leftOut: string }
  | {
      readonly mount: NamedMount;
      readonly kind: 'folder' | 'file';
      readonly path: string;
      /** tar patterns to leave out of it, as in Source. */
      readonly excludes?: readonly string[];
      /** Why it cannot be read now, as in Source. */
      readonly unavailable?: string;
    };

/** Whether a mount other than a volume belongs to a backup. @throws PluginError not_found: its folder or file is gone */
export async function classifyMount(mount: NamedMount): Promise<ClassifiedMount> {
  if (mount.type !== 'bind') return { mount, leftOut: `a ${mount.type || 'nameless'} mount stores nothing` };
  if (isSystemPath(mount.source)) return { mount, leftOut: 'a path of the host system' };
  const path = await realPlace(mount, `Folder ${mount.source}`);
  if (isSystemPath(path)) return { mount, leftOut: 'leads to a path of the host system' }; // /etc/localtime → /usr/share
  const found = await stat(path);
  if (found.isDirectory()) return { mount, kind: 'folder', path };
  if (found.isFile()) return { mount, kind: 'file', path };
  return { mount, leftOut: found.isSocket() ? 'a socket' : 'neither a folder nor a file' };
}

type Kept = Extract<ClassifiedMount, { path: string }>;

const isSame = (one: Kept, other: Kept): boolean =>
  one.path === other.path || (one.mount.volume !== '' && one.mount.volume === other.mount.volume);

/** A folder or file that a backup stores. */
export interface StoredMount {
  readonly mount: NamedMount;
  readonly kind: 'folder' | 'file';
  readonly path: string;
  /** Further destinations of the same folder, which is stored once. */
  readonly alsoAt: readonly string[];
  /** tar patterns of other stored mounts inside it, as in Source.excludes. */
  readonly excludes: readonly string[];
  /** Why it cannot be read now, as in Source. */
  readonly unavailable?: string;
}

/** The mounts that belong to a backup. A folder mounted twice is stored once; a mount inside another one is stored apart. */
export function listStoredMounts(judged: readonly ClassifiedMount[]): {
  readonly stored: readonly StoredMount[];
  readonly leftOut: readonly Extract<ClassifiedMount, { leftOut: string }>[];
} {
  const kept = judged.flatMap((one) => ('path' in one ? [one] : []));
  const first = kept.filter((one, n) => kept.findIndex((other) => isSame(one, other)) === n);
  const stored = first.map((one) => ({
    ...one,
    alsoAt: kept.filter((other) => isSame(one, other) && other.mount !== one.mount).map(({ mount }) => mount.destination),
    excludes: [
      ...(one.excludes ?? []),
      ...first.filter(({ path }) => path !== one.path && within(path, one.path)).map(({ path }) => literalPattern(path, one.path)),
    ],
  }));
  return { stored, leftOut: judged.flatMap((one) => ('leftOut' in one ? [one] : [])) };
}

/** The mount's path with all symlinks resolved. @throws PluginError not_found */
export async function realPlace(mount: NamedMount, what: string): Promise<string> {
  try {
    return await realpath(mount.source);
  } catch (cause) {
    const message = `${what} (${mount.source || 'no path'}), mounted at ${mount.destination}, is not there`;
    throw new PluginError('not_found', message, { cause });
  }
}

/** The folder that holds the container's own root: overlay2's writable layer, else the whole root. `whole` finds the whole root
 *  where the engine names none. @throws PluginError unsupported */
export async function rootSource(inspect: Inspect, whole: () => Promise<string | undefined>): Promise<Source> {
  const base = { name: 'rootfs', origin: 'engine', kind: 'folder' } as const;
  const upper = inspect.layer.UpperDir;
  if (typeof upper === 'string' && (await isFolder(upper))) return { ...base, path: upper, excludes: [] };
  // The whole root: exclude each mount by name, because --one-file-system does not notice a bind mount of the same file system.
  const excludes = ['./proc', './sys', './dev', './run', ...inspect.mounts.map((mount) => `.${mount.destination}`)];
  const merged = inspect.layer.MergedDir;
  const named = [inspect.pid > 0 ? `/proc/${inspect.pid}/root/` : '', typeof merged === 'string' ? merged : ''];
  for (const path of [...named, (await whole()) ?? '']) {
    if (path !== '' && (await isFolder(path))) return { ...base, path, excludes };
  }
  throw new PluginError('unsupported', `Docker shows no folder of ${inspect.name}'s root: start the container or use the overlay2 driver`);
}

async function isFolder(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() ?? false;
}
