/** What of a run a restore is about, and where it may be extracted. */
import { realpath } from 'node:fs/promises';
import { imageSource, type Manifest } from '../archive/index.js';
import { type Placement, PluginError } from '../contract/index.js';

/** How many names a message gives. */
const mostNames = 100;

/** The run less the sources that are not asked for: neither they nor their archives are looked at. The image stays, in case the
 *  engine lacks it. @throws PluginError invalid: a name of no source of the run */
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

/** The archives that a restore is sure to read: a container that keeps its root keeps its image. */
export function neededArchives({ sources, archives }: Manifest, action: 'create' | 'replace'): Manifest['archives'] {
  const withImage = action === 'create' || sources.some(({ name }) => name === 'rootfs');
  return withImage ? archives : archives.filter(({ source }) => source !== imageSource);
}

const nested = (inner: string, outer: string): PluginError =>
  new PluginError('damaged', `the run has ${inner} inside ${outer}; a volume lies beside the root and other volumes`);

/** A record says where its volumes lay. One that lay in another source would be extracted into it, and could follow a link that
 *  came out of that one's archive. @throws PluginError damaged */
export async function refuseNested(folders: ReadonlyMap<string, string>): Promise<void> {
  const real = await Promise.all([...folders].map(async ([name, folder]) => ({ name, path: `${await realpath(folder)}/` })));
  // In this order what lies in a folder comes right after it.
  real.sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const [n, inner] of real.entries()) {
    const outer = real[n - 1];
    if (outer && inner.path.startsWith(outer.path)) throw nested(inner.name, outer.name);
  }
}

/** The same for where they will lie. Of folders of the host, which people bind as they like, one may lie in another; a volume of the
 *  container's own holds no other. @throws PluginError damaged */
export function refuseNestedPlaces({ places }: Placement, { container }: Manifest): void {
  const own = new Set(container.volume.filter(({ origin }) => origin === 'new').map(({ name }) => name));
  const filled = places.filter(({ action, after }) => (action === 'restore' || action === 'copy') && after.startsWith('/'));
  for (const outer of filled.filter(({ source }) => own.has(source))) {
    const inner = filled.find(({ after, source }) => source !== outer.source && `${after}/`.startsWith(`${outer.after}/`));
    if (inner) throw nested(inner.source, outer.source);
  }
}
