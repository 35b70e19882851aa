import { randomBytes } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import { PluginError, type RestorePlan, type VolumeDescription } from '../../../core/contract/index.js';
import { mountPoints } from '../../shared/mounts.js';
import { within } from '../../shared/paths.js';
import { isTaken, present } from '../../shared/places.js';
import { hasNewMacs, newPlace } from '../../shared/remap.js';
import { newMac, rewrite, rootOf, withMountSource } from './config.js';
import { draftPrefix, type Place } from './journal.js';
import type { Tools } from './tools.js';

/** Where everything of a draft goes. */
export interface Layout {
  readonly folder: string; // the draft's own, with the journal
  readonly places: readonly Place[];
  /** Folder to extract into by source. */
  readonly folders: ReadonlyMap<string, string>;
  /** Folders of the new container that no source fills. */
  readonly extra: readonly string[];
  readonly config: { readonly path: string; readonly text: string };
}

/** The volume's path below the container's folder that it was backed up from. */
function innerPath(plan: RestorePlan, volume: VolumeDescription): string {
  const root = rootOf(plan.description.native.text);
  const own = root?.backing === 'dir' ? dirname(root.path) : undefined;
  if (own !== undefined && within(volume.path, own)) return volume.path.slice(own.length + 1);
  const mark = `/${plan.description.name}/`;
  const at = volume.path.indexOf(mark);
  return at < 0 ? join('volumes', volume.name) : volume.path.slice(at + mark.length);
}

/** Where each volume of the plan goes on this appliance. @throws PluginError exists, invalid */
export async function volumePaths(plan: RestorePlan, folder: string): Promise<Map<VolumeDescription, string>> {
  const given = new Set(plan.sources.map(({ name }) => name));
  const paths = new Map<VolumeDescription, string>();
  for (const volume of plan.description.volume) {
    const other = plan.remap?.volumes?.[volume.name];
    if (other !== undefined) paths.set(volume, await newPlace(volume.name, other));
    else if (volume.origin === 'new') {
      const path = normalize(join(folder, innerPath(plan, volume)));
      if (path === folder || !within(path, folder)) throw new PluginError('invalid', `volume ${volume.name} leads out of the container`);
      paths.set(volume, path);
    } else if (plan.action === 'replace' || !given.has(volume.name) || !(await isTaken(volume.path))) {
      paths.set(volume, volume.path); // a host folder that is not restored is shared with the original
    } else paths.set(volume, `${volume.path}.${plan.container}`);
  }
  return paths;
}

/** The configuration with the new container's paths and names; all else verbatim. */
export function newConfig(plan: RestorePlan, root: string, paths: ReadonlyMap<VolumeDescription, string>): string {
  const moved = (source: string) => {
    for (const [volume, path] of paths) if (within(source, volume.path)) return path + source.slice(volume.path.length);
    return source;
  };
  const renamed = plan.container !== plan.description.name;
  const newMacs = hasNewMacs(plan);
  return rewrite(plan.description.native.text, ({ key, value }) => {
    if (key === 'lxc.rootfs.path') return rootOf(`${key} = ${value}`)?.path === root ? value : `dir:${root}`;
    if (key === 'lxc.uts.name' && renamed) return plan.container;
    if (newMacs && /^lxc\.net\.\d+\.hwaddr$/.test(key)) return newMac();
    return key === 'lxc.mount.entry' ? withMountSource(value, moved) : value;
  });
}

/** A place beside what it replaces, on the same file system. `inFile` is the archive's entry for a single file. */
async function besidePlace(path: string, random: string, inFile?: string): Promise<{ place: Place; folder: string }> {
  const hadFinal = await present(path);
  const final = hadFinal ? await realpath(path) : path; // through a link: the link stays
  const parents: string[] = [];
  let anchor = dirname(final);
  for (; !(await present(anchor)); anchor = dirname(anchor)) parents.unshift(anchor);
  const common = { final, hadFinal, names: [], parents };
  if (inFile === undefined && (await mountPoints()).includes(final)) {
    const own = join(final, `.container-backup-${random}`);
    const folder = join(own, 'new');
    return { folder, place: { ...common, built: folder, mode: 'entries', old: join(own, 'old'), scratch: [own] } };
  }
  const folder = join(anchor, `${basename(final)}.container-backup-${random}`);
  const built = inFile === undefined ? folder : join(folder, inFile);
  return { folder, place: { ...common, built, mode: 'whole', old: `${folder}-old`, scratch: [folder] } };
}

/** The root of the container that is replaced. @throws PluginError unsupported */
async function currentRoot(tools: Tools, plan: RestorePlan): Promise<string> {
  const root = rootOf(await tools.config(plan.container));
  if (root?.backing === 'dir') return root.path;
  throw new PluginError('unsupported', `the root of ${plan.container} is no plain folder; restore it under another name`);
}

/** Where a new container and its volumes are built; @see Layout */
async function createLayout(tools: Tools, plan: RestorePlan, random: string): Promise<Layout> {
  const final = tools.folder(plan.container);
  const folder = join(tools.path, `${draftPrefix}${random}`);
  const built = join(folder, 'container');
  const paths = await volumePaths(plan, final);
  const folders = new Map([['rootfs', join(built, 'rootfs')]]);
  const extra: string[] = [];
  const whole: Place = { built, final, hadFinal: false, mode: 'whole', names: [], old: join(folder, 'old'), parents: [], scratch: [] };
  const places = [whole];
  for (const [volume, path] of paths) {
    const source = plan.sources.find(({ name }) => name === volume.name);
    const inner = volume.origin === 'new' ? join(built, path.slice(final.length)) : undefined;
    if (source === undefined) {
      if (inner !== undefined) extra.push(inner); // LXC starts only when the folder is there
    } else if (inner !== undefined && source.kind === 'file') {
      const own = join(folder, 'files', volume.name);
      folders.set(volume.name, own);
      extra.push(dirname(inner));
      // before the container itself, which then takes it along
      places.unshift({ ...whole, built: join(own, basename(volume.path)), final: inner, old: join(folder, `old-${volume.name}`) });
    } else if (inner !== undefined) folders.set(volume.name, inner);
    else {
      if (await isTaken(path)) throw new PluginError('exists', `${path} is there and not empty; move it away`);
      const beside = await besidePlace(path, random, source.kind === 'file' ? basename(volume.path) : undefined);
      places.push(beside.place);
      folders.set(volume.name, beside.folder);
    }
  }
  const text = newConfig(plan, join(final, 'rootfs'), paths);
  return { config: { path: join(built, 'config'), text }, extra, folder, folders, places };
}

/** Where what replaces a container is built; @see Layout */
async function replaceLayout(tools: Tools, plan: RestorePlan, random: string): Promise<Layout> {
  const own = tools.folder(plan.container);
  const root = await currentRoot(tools, plan);
  const paths = await volumePaths(plan, own);
  const folders = new Map<string, string>();
  const places: Place[] = [];
  const add = async ({ name, kind, excludes = [] }: RestorePlan['sources'][number], path: string, inFile: string) => {
    const { place, folder } = await besidePlace(path, random, kind === 'file' ? inFile : undefined);
    places.push(kind === 'file' ? place : { ...place, excludes });
    folders.set(name, folder);
  };
  const held = (wanted: string) => plan.sources.find(({ name }) => name === wanted);
  const rootSource = held('rootfs');
  if (rootSource !== undefined) await add(rootSource, root, '');
  for (const [volume, path] of paths) {
    const source = held(volume.name);
    if (source !== undefined) await add(source, path, basename(volume.path));
  }
  const config = await besidePlace(join(own, 'config'), random, 'config');
  places.push(config.place);
  const text = newConfig(plan, root, paths);
  const folder = join(tools.path, `${draftPrefix}${random}`);
  return { config: { path: config.place.built, text }, extra: [config.folder], folder, folders, places };
}

/** Lays a draft out; nothing is written yet. @throws PluginError exists, not_found, unsupported, invalid */
export async function layoutOf(tools: Tools, plan: RestorePlan): Promise<Layout> {
  const random = randomBytes(6).toString('hex');
  const layout = await (plan.action === 'create' ? createLayout : replaceLayout)(tools, plan, random);
  for (const { name } of plan.sources) {
    if (!layout.folders.has(name)) throw new PluginError('invalid', `the description knows no volume ${name}`);
  }
  return layout;
}
