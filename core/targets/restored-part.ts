/** Picks the part of a run that a restore takes, and refuses places that lie in each other. */
import { realpath } from 'node:fs/promises';
import { imageSource, type Manifest } from '../archive/index.js';
import { type Placement, PluginError } from '../contract/index.js';

/** A message lists at most so many names. */
const mostNames = 100;

/** The run with only the sources that are asked for. Other archives are never read. The image stays, because the engine may lack it.
 *  @throws PluginError invalid: the run has no source of a name */
export function choosePart(manifest: Manifest, names: readonly string[] | undefined): Manifest {
  if (names === undefined) return manifest;
  const held = manifest.sources.map(({ name }) => name);
  const unknown = names.filter((name) => !held.includes(name));
  if (unknown.length > 0) {
    const known = held.slice(0, mostNames).join(', ');
    throw new PluginError('invalid', `sources: ${manifest.run} holds no ${unknown.slice(0, mostNames).join(', ')}; it holds ${known}`);
  }
  const chosen = new Set(names);
  return {
    ...manifest,
    sources: manifest.sources.filter(({ name }) => chosen.has(name)),
    archives: manifest.archives.filter(({ source }) => source === imageSource || chosen.has(source)),
  };
}

/** The archives that a restore reads for certain: a container that keeps its root keeps its image, too. */
export function neededArchives({ sources, archives }: Manifest, action: 'create' | 'replace'): Manifest['archives'] {
  const withImage = action === 'create' || sources.some(({ name }) => name === 'rootfs');
  return withImage ? archives : archives.filter(({ source }) => source !== imageSource);
}

const nested = (inner: string, outer: string): PluginError =>
  new PluginError('damaged', `the run has ${inner} inside ${outer}; a volume lies beside the root and other volumes`);

/** A manifest says where its volumes lie. A volume inside another source would be extracted through links that the other one's archive
 *  can make. @throws PluginError damaged */
export async function refuseNested(folders: ReadonlyMap<string, string>): Promise<void> {
  const real = await Promise.all([...folders].map(async ([name, folder]) => ({ name, path: `${await realpath(folder)}/` })));
  // Sorted, a folder inside another one follows right after it.
  real.sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const [n, inner] of real.entries()) {
    const outer = real[n - 1];
    if (outer && inner.path.startsWith(outer.path)) throw nested(inner.name, outer.name);
  }
}

/** The same check for the places after the restore. Folders of the host may lie in each other, because people bind them so; a volume
 *  of the container's own holds no other source. @throws PluginError damaged */
export function refuseNestedPlaces({ places }: Placement, { container }: Manifest): void {
  const own = new Set(container.volume.filter(({ origin }) => origin === 'new').map(({ name }) => name));
  const filled = places.filter(({ action, after }) => (action === 'restore' || action === 'copy') && after.startsWith('/'));
  for (const outer of filled.filter(({ source }) => own.has(source))) {
    const inner = filled.find(({ after, source }) => source !== outer.source && `${after}/`.startsWith(`${outer.after}/`));
    if (inner) throw nested(inner.source, outer.source);
  }
}
