import { readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Conflict,
  type ContainerSummary,
  type Description,
  type Draft,
  PluginError,
  type PluginLog,
  type RestorePlan,
  type Runtime,
  type Source,
} from '../../../core/contract/index.js';
import { mountsInside, removeTree } from '../../shared/mounts.js';
import { within } from '../../shared/paths.js';
import { present } from '../../shared/places.js';
import { addresses, rootOf } from './config.js';
import { descriptionOf } from './describe.js';
import { clearDraft, LxcDraft, revertSwap } from './draft.js';
import { idShift } from './ids.js';
import { draftPrefix, type Journal, ownerAlive, ownerOfThisThread, readJournal, writeJournal } from './journal.js';
import { layoutOf, volumePaths } from './layout.js';
import { remapped } from './remap.js';
import { isName, Tools } from './tools.js';
import { bindSources, mountsOf } from './volumes.js';

/** A mount point holds what an undo keeps of it. */
const undoExcludes = ['./.container-backup-*'] as const;

/** The containers of one LXC path, by the lxc-* tools. */
export class LxcRuntime implements Runtime {
  readonly supports = { images: false, pause: true };
  readonly #tools: Tools;
  readonly #log: PluginLog;

  constructor(path: string, log: PluginLog) {
    this.#tools = new Tools(path);
    this.#log = log;
  }

  version(): Promise<string> {
    return this.#tools.version();
  }

  async *list(): AsyncIterable<ContainerSummary> {
    for (const name of await this.#names()) {
      const state = await this.#tools.state(name).catch((error: unknown) => {
        if (error instanceof PluginError && error.code === 'not_found') return undefined; // removed meanwhile
        throw error;
      });
      if (state !== undefined) yield { id: name, image: '', name, state, type: 'lxc' };
    }
  }

  async describe(id: string): Promise<Description> {
    const text = await this.#tools.config(id);
    const state = await this.#tools.state(id);
    return descriptionOf(id, text, { own: this.#tools.folder(id), state, users: (path) => this.#users(path, id) });
  }

  async sources(id: string): Promise<readonly Source[]> {
    const text = await this.#tools.config(id);
    const { volumes } = await mountsOf(text, this.#tools.folder(id));
    const sources = [await this.#root(id, text, volumes)];
    for (const { name, origin, kind, path } of volumes) {
      if (kind === undefined) throw new PluginError('not_found', `volume ${name} of ${id} is not there: ${path}`);
      const inner = await mountsInside(await realpath(path));
      sources.push({ excludes: [...undoExcludes, ...inner.map(({ exclude }) => exclude)], kind, name, origin, path });
    }
    return sources;
  }

  async image(id: string): Promise<undefined> {
    await this.#tools.config(id);
    return undefined;
  }

  async pause(id: string): Promise<AsyncDisposable> {
    await this.#tools.config(id);
    if ((await this.#tools.state(id)) !== 'running') return { [Symbol.asyncDispose]: async () => undefined }; // its owner's freeze stays
    try {
      await this.#tools.freeze(id);
    } catch (error) {
      await this.#tools.unfreeze(id); // it may be half frozen
      throw error;
    }
    return { [Symbol.asyncDispose]: () => this.resume(id) };
  }

  async resume(id: string): Promise<void> {
    // a lease may outlive its container
    if (await present(join(this.#tools.folder(id), 'config'))) await this.#tools.unfreeze(id);
  }

  async conflicts(given: RestorePlan): Promise<readonly Conflict[]> {
    const plan = remapped(given);
    const folder = this.#tools.folder(plan.container);
    const found = await this.#addressConflicts(plan);
    if (plan.action === 'create' && (await present(folder))) {
      found.push({ code: 'name_taken', fix: 'choose another name', what: plan.container });
    }
    for (const [volume, path] of await volumePaths(plan, folder)) {
      const held = plan.sources.some(({ name }) => name === volume.name);
      if (held && plan.action === 'replace') found.push(...(await this.#sharing(path, plan.container)));
      const taken = held && plan.action === 'create' && path !== volume.path && volume.origin === 'host' && (await present(path));
      if (taken) found.push({ code: 'folder_taken', fix: 'move it away or choose another name', what: path });
    }
    return found;
  }

  async draft(given: RestorePlan, o: { signal: AbortSignal }): Promise<Draft> {
    const folder = this.#tools.folder(given.container);
    const plan = remapped(given);
    if (plan.description.native.format !== 'lxc-config') throw new PluginError('invalid', 'this is no backup of an LXC container');
    if (plan.action === 'create' && (await present(folder)))
      throw new PluginError('exists', `there is a container ${plan.container} already`);
    const layout = await layoutOf(this.#tools, plan);
    const conflicts = () => (plan.action === 'create' ? this.#addressConflicts(plan) : Promise.resolve([]));
    const supersede = (own: string) => this.#dropUndosOf(plan.container, own);
    const ids = plan.remap?.ids;
    const shift = ids && { shift: idShift(given.description.native.text, ids) };
    const draft = new LxcDraft(this.#tools, plan, layout, { conflicts, supersede, log: this.#log, signal: o.signal, ...shift });
    try {
      await draft.prepare();
    } catch (error) {
      await draft.discard();
      throw error;
    }
    return draft;
  }

  async recover(container?: string): Promise<void> {
    const errors: unknown[] = [];
    for (const name of await readdir(this.#tools.path).catch(() => [])) {
      if (!name.startsWith(draftPrefix)) continue;
      try {
        await this.#recoverDraft(join(this.#tools.path, name), container);
      } catch (error) {
        errors.push(error); // the others are still looked after
      }
    }
    if (errors.length > 0) throw new PluginError('failed', errors.map(String).join('; '), { cause: errors[0] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // holds nothing open
  }

  async undo(id: string): Promise<void> {
    const folder = this.#undoFolder(id);
    const journal = await readJournal(folder);
    const isKept = journal?.phase === 'committed' && (journal.undoUntil ?? 0) >= Date.now();
    const isHalfUndone = journal?.phase === 'swapping' && journal.undoUntil !== undefined && !ownerAlive(journal.owner);
    if (journal === undefined || !(isKept || isHalfUndone)) throw new PluginError('not_found', `what undo ${id} kept is gone`);
    for (const { old, hadFinal } of isKept ? journal.places : []) {
      if (hadFinal && !(await present(old))) throw new PluginError('not_found', `${old}, which the undo needs, was removed by hand`);
    }
    // From here on a crash or a failure ends the way back, too: recover, or the next undo, goes on with it.
    await this.#takeOver(folder, { ...journal, phase: 'swapping' });
  }

  async dropUndo(id: string): Promise<void> {
    const folder = this.#undoFolder(id);
    const journal = await readJournal(folder);
    if (journal?.phase === 'committed') await clearDraft(folder, journal.places, { old: true });
  }

  #undoFolder(id: string): string {
    if (!/^[0-9a-f]{12}$/.test(id)) throw new PluginError('not_found', `there is no undo ${JSON.stringify(id)}`);
    return join(this.#tools.path, `${draftPrefix}${id}`);
  }

  /** Only the latest replacement of a container can be undone. */
  async #dropUndosOf(container: string, except: string): Promise<void> {
    for (const name of await readdir(this.#tools.path)) {
      if (!name.startsWith(draftPrefix) || name === except) continue;
      const journal = await readJournal(join(this.#tools.path, name));
      if (journal?.container === container && journal.phase === 'committed') await this.dropUndo(name.slice(draftPrefix.length));
    }
  }

  /** @param only leaves what other containers' restores left */
  async #recoverDraft(folder: string, only?: string): Promise<void> {
    const journal = await readJournal(folder);
    if (only !== undefined && journal?.container !== only) return;
    if (journal === undefined) return removeTree(folder); // a journal comes before anything else
    if (ownerAlive(journal.owner)) return;
    if (journal.phase === 'committed' && (journal.undoUntil ?? 0) >= Date.now()) return;
    this.#log('warn', `removing what a crash left of restoring ${journal.container}`, { phase: journal.phase });
    await this.#takeOver(folder, journal);
  }

  /** Ends what a journal tells: goes back, or removes what was replaced. It is claimed first: main and a worker may both look
   *  after it. When that fails, whoever looks next goes on with it. */
  async #takeOver(folder: string, journal: Journal): Promise<void> {
    const claimed = { ...journal, owner: ownerOfThisThread() };
    await writeJournal(folder, claimed);
    try {
      if (journal.phase === 'swapping') await revertSwap(this.#tools, folder, claimed);
      await clearDraft(folder, journal.places, { old: journal.phase === 'committed' });
    } catch (error) {
      await writeJournal(folder, { ...claimed, owner: '' }).catch(() => undefined); // for the next look
      throw error;
    }
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

  /** Other containers that bind a path, or what holds it or lies in it. */
  async #users(path: string, except: string): Promise<string[]> {
    const users: string[] = [];
    for (const name of await this.#names()) {
      if (name === except) continue;
      const sources = bindSources(await this.#tools.config(name));
      if (sources.some((source) => within(source, path) || within(path, source))) users.push(name);
    }
    return users;
  }

  /** Running containers that use a volume stand in the way of replacing it; stopped ones are only named. */
  async #sharing(path: string, container: string): Promise<Conflict[]> {
    const found: Conflict[] = [];
    for (const name of await this.#users(path, container)) {
      const what = `${name} uses ${path} too`;
      const stopped = (await this.#tools.state(name)) === 'stopped';
      if (stopped) found.push({ code: 'volume_shared', what, fix: `${name} will find the restored files; nothing needs to be done` });
      else found.push({ code: 'volume_in_use', what, fix: `stop ${name} first` });
    }
    return found;
  }

  async #addressConflicts(plan: RestorePlan): Promise<Conflict[]> {
    const wanted = addresses(plan.description.native.text);
    const found: Conflict[] = [];
    for (const name of await this.#names()) {
      if (name === plan.container) continue;
      const taken = addresses(await this.#tools.config(name)).filter((address) => wanted.includes(address));
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
      return { ...common, excludes: undoExcludes, path: root.path };
    }
    const init = await this.#tools.init(id);
    if (root === undefined || init === undefined) {
      throw new PluginError('unsupported', `the root of ${id} (${root?.backing ?? 'none'}) is reachable only while it runs; start it`);
    }
    // seen from inside, where all mounts are in place
    const inner = ['/proc', '/sys', '/dev', '/run', ...volumes.map(({ mountpoint }) => mountpoint)];
    return { ...common, excludes: inner.map((mountpoint) => `.${mountpoint}/*`), path: `/proc/${init}/root` };
  }
}
