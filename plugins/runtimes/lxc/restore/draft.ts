import { chmod, lstat, mkdir, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type Committed,
  type Conflict,
  type ContainerState,
  type Draft,
  PluginError,
  type PluginLog,
  type RestorePlan,
} from '../../../../core/contract/index.js';
import {
  keptBytes,
  makeParents,
  makeScratch,
  type Parent,
  planParents,
  refuseRunning,
  type Swaps,
  swapPlaces,
  syncFilled,
  withoutLocks,
} from '../../../shared/swap/index.js';
import { setting } from '../config.js';
import { type IdShift, shiftTree } from '../ids.js';
import type { Journal, Own, SwapDeps } from './journal.js';
import type { Layout } from './layout.js';
import { placementOf } from './placement.js';
import { discardDraft, finishSwap, revertSwap } from './undo.js';

export interface DraftDeps extends SwapDeps {
  readonly swaps: Swaps<Own>;
  readonly log: PluginLog;
}

/** A container in the making. The journal names everything before the draft touches it. */
export class LxcDraft implements Draft {
  readonly needsImage = false;
  #closed = false;

  constructor(
    readonly deps: DraftDeps,
    readonly plan: RestorePlan,
    readonly layout: Layout,
    readonly journal: Journal,
    readonly o: {
      readonly signal: AbortSignal;
      /** Set when the restored container gets other ids than at the backup. */
      readonly shift?: IdShift;
      /** Conflicts of the restored container, asked at the commit. */
      conflicts(): Promise<readonly Conflict[]>;
    },
  ) {
    journal.places.push(...layout.places);
  }

  async loadImage(_source: Readable): Promise<void> {
    throw new PluginError('unsupported', 'LXC has no images');
  }

  /** Writes the journal, makes the folders and writes the configuration. */
  async prepare(): Promise<void> {
    const { places, folders, extra, config, inner, own } = this.layout;
    const save = () => this.deps.journals.write(this.journal);
    await save();
    for (const place of places) await makeScratch(place, save);
    await save();
    for (const one of inner) await makeParents({ parents: this.#shiftIds(await planParents(one.path, one.known)) });
    for (const folder of [...folders.values(), ...extra]) await mkdir(folder, { recursive: true });
    if (config) await writeFile(config.path, config.text, { mode: 0o644 });
    if (own === undefined || !config) return;
    // a container with an idmap must be able to reach its own folder; otherwise nobody but root may
    const shifted = setting(config.text, 'lxc.idmap') !== undefined;
    await chmod(own, shifted ? 0o755 : 0o770);
  }

  /** Shifts the ids of folders between the container's own folder and a volume in it. */
  #shiftIds(parents: readonly Parent[]): readonly Parent[] {
    const { shift } = this.o;
    return shift === undefined ? parents : parents.map((one) => ({ ...one, uid: shift.uid(one.uid), gid: shift.gid(one.gid) }));
  }

  async folders(): Promise<ReadonlyMap<string, string>> {
    return this.layout.folders;
  }

  async commit(): Promise<Committed> {
    if (this.#closed) throw new PluginError('failed', 'the draft is closed');
    const { plan, journal, deps } = this;
    const { tools, journals } = deps;
    const replace = plan.action === 'replace';
    await this.#check();
    const conflicts = await this.o.conflicts();
    await this.#finishFiles();
    const fresh: ContainerState = plan.description.state === 'stopped' || conflicts.length > 0 ? 'stopped' : 'running';
    journal.former = replace ? await tools.state(plan.container) : 'stopped';
    const keeps = replace || journal.places.some(({ had }) => had);
    journal.undoUntil = keeps ? (plan.undoUntil ?? 0) : 0;
    try {
      journal.phase = 'swap';
      await journals.write(journal);
      await this.#swap();
      await tools.reach(plan.container, replace ? journal.former : fresh);
      await journals.write({ ...journal, phase: 'done' });
    } catch (error) {
      await this.#revert(error);
      throw error;
    }
    journal.phase = 'done';
    return this.#commitPlan(conflicts);
  }

  async #swap(): Promise<void> {
    const { plan, journal, deps } = this;
    if (plan.action === 'replace') await deps.tools.stop(plan.container);
    await swapPlaces(journal.places, () => deps.journals.write(journal)); // the container is stopped
  }

  async #commitPlan(conflicts: readonly Conflict[]): Promise<Committed> {
    const { plan, journal, deps } = this;
    const warn = (what: string) => (error: unknown) => deps.log('warn', `${what}: ${String(error)}`);
    // Not earlier: a failed restore must leave the undo of the restore before.
    await deps.swaps.supersede(journal).catch(warn('an older undo is not removed'));
    this.#closed = true;
    const result = { conflicts, ...placementOf(plan, this.layout.decisions) };
    if (journal.undoUntil > 0) return { ...result, undo: journal.id, undoBytes: await keptBytes(journal.places) };
    await finishSwap(deps, journal)
      .then(() => deps.journals.remove(journal))
      .catch(warn(`the replaced files of ${plan.container} are not removed yet`));
    return result;
  }

  async discard(): Promise<void> {
    if (this.#closed) return;
    if (this.journal.phase === 'swap') await this.#revert(undefined);
    await discardDraft(this.deps, this.journal);
    await this.deps.journals.remove(this.journal);
    this.#closed = true;
  }

  async #revert(cause: unknown): Promise<void> {
    try {
      await revertSwap(this.deps, this.journal);
    } catch (error) {
      const why = `${this.plan.container} could not be rolled back (${String(error)}); recovery tries again`;
      throw new PluginError('failed', cause === undefined ? why : `${String(cause)}; ${why}`, { cause, retryable: true });
    }
  }

  /** Checks everything before the swap touches anything that exists. */
  async #check(): Promise<void> {
    const { plan, layout, deps } = this;
    if (this.o.signal.aborted) throw new PluginError('aborted', 'the restore was cancelled');
    const root = layout.folders.get('rootfs');
    if (root !== undefined && (await readdir(root)).length === 0) throw new PluginError('damaged', 'nothing was extracted into the root');
    // Check the users again: filling the draft may take hours, and another container may have started on a folder to be moved.
    // Nothing else is checked again: the draft decided where things go, and the swap looks at each place when it moves it. A place
    // that does not exist yet, like a clone's copy, has no users.
    const replaced = layout.places.filter(({ had }) => had);
    refuseRunning(plan.container, replaced, await deps.users(plan.container));
    const problem = layout.config && (await deps.tools.textProblem(layout.config.text));
    if (problem !== undefined) throw new PluginError('conflict', `LXC does not load the configuration of ${plan.container}: ${problem}`);
  }

  async #finishFiles(): Promise<void> {
    const { container, description } = this.plan;
    const root = this.layout.folders.get('rootfs');
    if (container !== description.name && root !== undefined) await emptyMachineId(root);
    const { shift, signal } = this.o;
    if (shift) for (const folder of this.layout.folders.values()) await shiftTree(folder, shift, signal);
    await syncFilled(this.journal.places);
  }
}

/** Empties a clone's machine-id: each machine needs its own, and systemd writes a new one into an empty file. Follows no
 *  symlinks. */
async function emptyMachineId(root: string): Promise<void> {
  const etc = await lstat(join(root, 'etc')).catch(() => undefined);
  const file = join(root, 'etc', 'machine-id');
  const stats = etc?.isDirectory() ? await lstat(file).catch(() => undefined) : undefined;
  if (stats?.isFile()) await withoutLocks(Buffer.from(file), () => truncate(file, 0));
}
