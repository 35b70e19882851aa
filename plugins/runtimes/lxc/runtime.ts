import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Conflict,
  type ContainerSummary,
  type Description,
  type Draft,
  PluginError,
  type PluginLog,
  type Preview,
  type RestorePlan,
  type Runtime,
  type Source,
} from '../../../core/contract/index.js';
import { missingConflicts, userConflicts } from '../../shared/conflicts.js';
import { mountsInside } from '../../shared/mounts.js';
import { type Neighbour, neighbourUsers } from '../../shared/neighbours.js';
import { isPartial } from '../../shared/placement.js';
import { orAbsent, present, realPath } from '../../shared/presence.js';
import { overlap, ownExcludes, type PlaceUser, Swaps } from '../../shared/swap/index.js';
import { addresses, rootOf } from './config.js';
import { descriptionOf } from './describe.js';
import { grantsOf } from './grants.js';
import { idShift } from './ids.js';
import { configConflicts, isNameTaken, nameConflicts } from './restore/conflicts.js';
import { type DraftDeps, LxcDraft } from './restore/draft.js';
import { openJournals } from './restore/journal.js';
import { layoutOf } from './restore/layout.js';
import { missingMounts } from './restore/missing.js';
import { type Decision, decidePlaces, placementOf } from './restore/placement.js';
import { applyRemap } from './restore/remap.js';
import { swapEngine } from './restore/undo.js';
import { isName, Tools } from './tools.js';
import { bindSources, isStoredApart, mountsOf } from './volumes.js';

/** How many children ask for container states at once; each waits more than it computes. */
const askedAtOnce = 8;

/** The containers of one LXC path, through the lxc-* tools. */
export class LxcRuntime implements Runtime {
  readonly supports = { images: false, pause: true };
  readonly #tools: Tools;
  readonly #deps: DraftDeps;

  constructor(path: string, o: { readonly stateFolder: string; readonly log: PluginLog }) {
    const { log, stateFolder } = o;
    this.#tools = new Tools(path, stateFolder);
    const deps = { tools: this.#tools, journals: openJournals(stateFolder), users: (except: string) => this.#users(except) };
    this.#deps = { ...deps, log, swaps: new Swaps(deps.journals, swapEngine(deps), log) };
  }

  version(): Promise<string> {
    return this.#tools.version();
  }

  async *list(): AsyncIterable<ContainerSummary> {
    for (const name of await this.#names()) {
      const state = await orAbsent(this.#tools.state(name));
      if (state !== undefined) yield { id: name, image: '', name, state, type: 'lxc' };
    }
  }

  async describe(id: string): Promise<Description> {
    const text = await this.#tools.config(id);
    const state = await this.#tools.state(id);
    const others = await this.#placesOf(id);
    const users = async (path: string) => {
      const real = await realPath(path);
      return [...new Set(others.filter((one) => overlap(one.path, real)).map(({ container }) => container))];
    };
    return descriptionOf(id, text, { own: this.#tools.folder(id), state, users });
  }

  async sources(id: string): Promise<readonly Source[]> {
    const text = await this.#tools.config(id);
    const { volumes } = await mountsOf(text, this.#tools.folder(id));
    const sources = [await this.#root(id, text, volumes)];
    for (const volume of volumes) {
      const { name, origin, kind, path, real } = volume;
      if (kind === undefined) throw new PluginError('not_found', `volume ${name} of ${id} is not there: ${path}`);
      const inner = (await mountsInside(real)).map(({ exclude }) => exclude);
      sources.push({ excludes: [...ownExcludes, ...isStoredApart(volume, volumes), ...inner], kind, name, origin, path });
    }
    return sources;
  }

  async image(id: string): Promise<undefined> {
    await this.#tools.config(id);
    return undefined;
  }

  async pause(id: string): Promise<AsyncDisposable> {
    await this.#tools.config(id);
    if ((await this.#tools.state(id)) !== 'running') return { [Symbol.asyncDispose]: async () => undefined }; // a freeze by the owner stays
    try {
      await this.#tools.freeze(id);
    } catch (error) {
      await this.#tools.unfreeze(id); // it may be half frozen
      throw error;
    }
    return { [Symbol.asyncDispose]: () => this.resume(id) };
  }

  async resume(id: string): Promise<void> {
    // a lease may outlast its container
    if (await present(join(this.#tools.folder(id), 'config'))) await this.#tools.unfreeze(id);
  }

  /** Decides where everything in the plan goes. */
  async #decide(plan: RestorePlan): Promise<{ readonly decisions: readonly Decision[]; readonly missing: readonly Conflict[] }> {
    const { workFolder } = this.#tools;
    const folder = this.#tools.folder(plan.container);
    const current = plan.action === 'replace' ? await this.#tools.config(plan.container) : undefined;
    const ground = { plan, folder, current, users: await this.#users(plan.container), workFolder };
    const decisions = await decidePlaces(ground);
    return { decisions, missing: missingConflicts(await missingMounts(ground, decisions)) };
  }

  async preview(given: RestorePlan, { shares }: { readonly shares: readonly string[] }): Promise<Preview> {
    const plan = applyRemap(given);
    const { decisions, missing } = await this.#decide(plan);
    const config = isPartial(plan) ? [] : await configConflicts(this.#tools, plan, decisions);
    const users = [...userConflicts(decisions), ...missing];
    const conflicts = [...(await this.#addressConflicts(plan)), ...(await nameConflicts(this.#tools, plan)), ...users, ...config];
    const grants = await grantsOf(given, { shares, lxcPath: this.#tools.path });
    return { conflicts, grants, ...placementOf(plan, decisions) };
  }

  async draft(given: RestorePlan, o: { signal: AbortSignal }): Promise<Draft> {
    const plan = applyRemap(given);
    if (plan.description.native.format !== 'lxc-config') throw new PluginError('invalid', 'this is no backup of an LXC container');
    if (await isNameTaken(this.#tools, plan)) throw new PluginError('exists', `there is a container ${plan.container} already`);
    const journal = this.#deps.journals.create(plan.container, { action: plan.action, former: 'stopped' });
    const { decisions, missing } = await this.#decide(plan);
    await this.#refuseMissing(plan, missing);
    const layout = await layoutOf(this.#tools, plan, decisions, journal.id);
    const conflicts = async () => [...missing, ...(plan.action === 'create' ? await this.#addressConflicts(plan) : [])];
    const ids = plan.remap?.ids;
    const shift = ids && { shift: idShift(given.description.native.text, ids) };
    const draft = new LxcDraft(this.#deps, plan, layout, journal, { conflicts, signal: o.signal, ...shift });
    try {
      await draft.prepare();
    } catch (error) {
      await draft.discard();
      throw error;
    }
    return draft;
  }

  /** Refuses missing mounts when the container to replace runs: it could not start again. @throws PluginError conflict */
  async #refuseMissing({ action, container }: RestorePlan, [first]: readonly Conflict[]): Promise<void> {
    if (first === undefined || action === 'create' || (await this.#tools.state(container)) === 'stopped') return;
    throw new PluginError('conflict', `${first.what}, and ${container} runs: ${first.fix}`);
  }

  undo(id: string): Promise<void> {
    return this.#deps.swaps.undo(id);
  }

  dropUndo(id: string): Promise<void> {
    return this.#deps.swaps.drop(id);
  }

  recover(container?: string): Promise<void> {
    return this.#deps.swaps.recover(container);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // holds nothing open
  }

  async #names(): Promise<string[]> {
    const { path } = this.#tools;
    const entries = await readdir(path).catch((cause: unknown) => {
      throw new PluginError('unavailable', `the LXC path ${path} cannot be read`, { cause });
    });
    const names: string[] = [];
    for (const name of entries.sort()) if (isName(name) && (await present(join(path, name, 'config')))) names.push(name);
    return names;
  }

  /** The mounts of other containers, other engines' too, and whether each container runs. */
  async #users(except: string): Promise<readonly PlaceUser[]> {
    const places = await this.#placesOf(except);
    const asked = [...new Set(places.filter(({ running }) => running === undefined).map(({ container }) => container))];
    const runs = new Map<string, boolean>();
    for (let at = 0; at < asked.length; at += askedAtOnce) {
      const some = asked.slice(at, at + askedAtOnce);
      const states = await Promise.all(some.map((container) => orAbsent(this.#tools.state(container))));
      for (const [index, container] of some.entries()) runs.set(container, (states[index] ?? 'stopped') !== 'stopped');
    }
    return places.map(({ container, path, running }) => ({ container, path, running: running ?? runs.get(container) ?? false }));
  }

  /** The mounts without the state of LXC's own containers, which would cost a child for each. */
  async #placesOf(except: string): Promise<readonly (Omit<PlaceUser, 'running'> & { readonly running?: boolean })[]> {
    const places: { container: string; path: string }[] = [];
    const roots = new Set<string>();
    const names = await this.#names();
    for (const container of names) {
      const config = await orAbsent(this.#tools.config(container));
      if (config === undefined) continue;
      roots.add(await realPath(rootOf(config)?.path ?? this.#tools.folder(container)));
      if (container === except) continue;
      for (const path of bindSources(config)) places.push({ container, path: await realPath(path) });
    }
    return [...places, ...(await neighbourUsers((one) => isOwn(one, roots, names)))];
  }

  async #addressConflicts(plan: RestorePlan): Promise<Conflict[]> {
    const wanted = addresses(plan.description.native.text);
    const found: Conflict[] = [];
    for (const name of await this.#names()) {
      if (name === plan.container) continue;
      const config = (await orAbsent(this.#tools.config(name))) ?? '';
      const taken = addresses(config).filter((address) => wanted.includes(address));
      for (const what of taken) found.push({ code: 'address_taken', fix: `${name} has this address; change it, then start`, what });
    }
    return found;
  }

  async #root(id: string, text: string, volumes: readonly { readonly mountpoint: string }[]): Promise<Source> {
    const root = rootOf(text);
    const common = { kind: 'folder', name: 'rootfs', origin: 'engine' } as const;
    if (root?.backing === 'dir') {
      const stats = await stat(root.path).catch(() => undefined);
      if (!stats?.isDirectory()) throw new PluginError('not_found', `the root of ${id} is not there: ${root.path}`);
      return { ...common, excludes: ownExcludes, path: root.path };
    }
    const init = await this.#tools.init(id);
    if (root === undefined || init === undefined) {
      throw new PluginError('unsupported', `the root of ${id} (${root?.backing ?? 'none'}) is reachable only while it runs; start it`);
    }
    // /proc/PID/root shows all mounts of the container
    const inner = ['/proc', '/sys', '/dev', '/run', ...volumes.map(({ mountpoint }) => mountpoint)];
    return { ...common, excludes: inner.map((mountpoint) => `.${mountpoint}/*`), path: `/proc/${init}/root` };
  }
}

/** Whether a running container belongs to this LXC path: by its root, or by its name where the root is no plain folder. */
function isOwn({ engine, id, root }: Neighbour, roots: ReadonlySet<string>, names: readonly string[]): boolean {
  if (engine !== 'lxc') return false;
  return root === undefined ? names.includes(id.replace(/-\d+$/, '')) || names.includes(id) : roots.has(root);
}
