import { basename, dirname, join } from 'node:path';
import { PluginError, type RestorePlan } from '../../../../core/contract/index.js';
import { within } from '../../../shared/paths.js';
import { isTaken, present } from '../../../shared/presence.js';
import { hasNewMacs } from '../../../shared/remap.js';
import { fillFolder, ownPrefix, type Parent, type Place, planPlace } from '../../../shared/swap/index.js';
import { mountEntry, newMac, rewrite, rootOf, withMountOption, withMountSource } from '../config.js';
import type { Tools } from '../tools.js';
import type { Journal } from './journal.js';
import type { Decision } from './placement.js';

/** Where each part of a draft goes. */
export interface Layout {
  readonly decisions: readonly Decision[];
  /** In the order of the swap: outer folders before inner ones. */
  readonly places: readonly Place[];
  /** The folder to extract into, by source. */
  readonly folders: ReadonlyMap<string, string>;
  /** The new container's own folder while the draft fills it; undefined where the folder exists already. */
  readonly own?: string;
  /** Folders of the new container that no source fills, but that it needs. */
  readonly extra: readonly string[];
  /** Volumes inside the new container's folder, with mode and owner of the folders above them at the backup. */
  readonly inner: readonly { readonly path: string; readonly known: readonly Parent[] }[];
  /** The new configuration; undefined when only volumes are restored. */
  readonly config?: { readonly path: string; readonly text: string };
}

/** The configuration with the new container's paths and names; all other lines verbatim. */
export function newConfig(plan: RestorePlan, root: string, decisions: readonly Decision[]): string {
  const decided = (source: string) => decisions.find(({ volume }) => within(source, volume.path));
  const movedPlace = (source: string) => {
    const found = decided(source);
    return found === undefined ? source : found.after + source.slice(found.volume.path.length);
  };
  const renamed = plan.container !== plan.description.name;
  const newMacs = hasNewMacs(plan);
  return rewrite(plan.description.native.text, ({ key, value }) => {
    if (key === 'lxc.rootfs.path') return rootOf(`${key} = ${value}`)?.path === root ? value : `dir:${root}`;
    if (key === 'lxc.uts.name' && renamed) return plan.container;
    if (newMacs && /^lxc\.net\.\d+\.hwaddr$/.test(key)) return newMac();
    if (key !== 'lxc.mount.entry') return value;
    let isReadOnly = false;
    const at = mountEntry(value)?.mountpoint.replace(/^\/*/, '/');
    const twin = decisions.find(({ volume }) => at !== undefined && volume.also_at?.includes(at));
    const entry = withMountSource(value, (source) => {
      isReadOnly = (twin ?? decided(source))?.readOnly ?? false;
      return twin !== undefined && twin.after !== twin.volume.path ? twin.after : movedPlace(source);
    });
    return isReadOnly ? withMountOption(entry, 'ro') : entry;
  });
}

/** The root of the container to replace. @throws PluginError unsupported */
async function currentRoot(tools: Tools, plan: RestorePlan): Promise<string> {
  const root = rootOf(await tools.config(plan.container));
  if (root?.backing === 'dir') return root.path;
  throw new PluginError('unsupported', `the root of ${plan.container} is no plain folder; restore it under another name`);
}

/** Collects places; gives each a draft folder of its own. */
class PlaceList {
  readonly places: Place[] = [];
  readonly folders = new Map<string, string>();

  constructor(readonly id: string) {}

  nextId(): string {
    return `${this.id}-${this.places.length}`;
  }

  add(source: string | undefined, place: Place): Place {
    this.places.push(place);
    if (source !== undefined) this.folders.set(source, fillFolder(place));
    return place;
  }

  async host({ action, source, after, volume }: Decision): Promise<void> {
    if (source === undefined) return;
    if (action === 'copy' && (await isTaken(after))) throw new PluginError('exists', `${after} exists and is not empty; move it away`);
    const { kind, excludes = [] } = source;
    this.add(source.name, await planPlace(after, kind, { id: this.nextId(), excludes, known: volume.parents ?? [] }));
  }
}

/** A place where nothing exists yet: it is built whole in a folder of the draft. */
function freshPlace(live: string, kind: Place['kind'], scratch: string): Place {
  const common = { had: false, excludes: [], parents: [], pinned: [] };
  return { way: 'rename', kind, live, built: `${scratch}/new`, old: `${scratch}/old`, scratch, ...common };
}

/** The layout of a new container: it and its volumes are built in draft folders. @see Layout */
async function createLayout(tools: Tools, plan: RestorePlan, decisions: readonly Decision[], id: string): Promise<Layout> {
  const final = tools.folder(plan.container);
  const list = new PlaceList(id);
  const scratch = () => join(tools.path, `${ownPrefix}${list.nextId()}`);
  const built = fillFolder(list.add(undefined, freshPlace(final, 'folder', scratch())));
  const extra: string[] = [];
  const inners: { path: string; known: readonly Parent[] }[] = [];
  if (plan.sources.some(({ name }) => name === 'rootfs')) list.folders.set('rootfs', join(built, 'rootfs'));
  for (const decision of decisions) {
    const { volume, after, source } = decision;
    const inner = volume.origin === 'new' && within(after, final) ? join(built, after.slice(final.length)) : undefined;
    if (inner !== undefined) inners.push({ path: inner, known: volume.parents ?? [] });
    if (inner === undefined) await list.host(decision);
    else if (source === undefined)
      extra.push(inner); // LXC starts only if the folder exists
    else if (source.kind === 'folder') list.folders.set(source.name, inner);
    else {
      extra.push(dirname(inner));
      list.add(source.name, freshPlace(after, 'file', scratch())); // swapped after the container's folder, which contains it
    }
  }
  const text = newConfig(plan, join(final, 'rootfs'), decisions);
  const { folders, places } = list;
  return { decisions, own: built, config: { path: join(built, 'config'), text }, extra, inner: inners, folders, places };
}

/** The layout for replacing a container, or for one that comes back into its own folder. @see Layout */
async function replaceLayout(tools: Tools, plan: RestorePlan, decisions: readonly Decision[], id: string): Promise<Layout> {
  const own = tools.folder(plan.container);
  const list = new PlaceList(id);
  const root = plan.sources.find(({ name }) => name === 'rootfs');
  const rootPath = root && (plan.action === 'create' ? join(own, 'rootfs') : await currentRoot(tools, plan));
  if (rootPath !== undefined) {
    const { excludes = [] } = root ?? {};
    list.add('rootfs', await planPlace(rootPath, 'folder', { id: list.nextId(), excludes }));
  }
  for (const decision of decisions) {
    await list.host(decision);
    const { action, volume, after } = decision;
    const isNeeded = plan.action === 'create' && action === 'keep' && volume.origin === 'new' && !(await present(after));
    if (isNeeded) list.add(undefined, await planPlace(after, 'folder', { id: list.nextId() })); // an empty folder, as in a new container
  }
  const { folders, places } = list;
  if (rootPath === undefined) return { decisions, extra: [], inner: [], folders, places };
  const config = list.add(undefined, await planPlace(join(own, 'config'), 'file', { id: list.nextId() }));
  const text = newConfig(plan, rootPath, decisions);
  return { decisions, config: { path: join(fillFolder(config), 'config'), text }, extra: [], inner: [], folders, places };
}

/** The place of the configuration; undefined when the configuration lies inside another place. */
export function configPlace(tools: Tools, { container, places }: Journal): Place | undefined {
  const path = join(tools.folder(container), 'config');
  return places.find(({ live, kind }) => kind === 'file' && live === path);
}

/** Lays a draft out; writes nothing. @throws PluginError exists, not_found, unsupported, invalid */
export async function layoutOf(tools: Tools, plan: RestorePlan, decisions: readonly Decision[], id: string): Promise<Layout> {
  if (plan.action === 'create' && !plan.sources.some(({ name }) => name === 'rootfs'))
    throw new PluginError('invalid', `${plan.container} does not exist, and a new container needs its root: add rootfs to sources`);
  const isNew = plan.action === 'create' && !(await present(tools.folder(plan.container)));
  const layout = await (isNew ? createLayout : replaceLayout)(tools, plan, decisions, id);
  const known = new Set(['rootfs', ...plan.description.volume.map(({ name }) => name)]);
  const stranger = plan.sources.find(({ name }) => !known.has(name));
  if (stranger) throw new PluginError('invalid', `the description of ${basename(plan.description.name)} has no volume ${stranger.name}`);
  return layout;
}
