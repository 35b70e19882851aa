import { chmod, lstat, mkdir, readdir, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type Conflict,
  type ContainerState,
  type Draft,
  PluginError,
  type PluginLog,
  type RestorePlan,
} from '../../../core/contract/index.js';
import { refuseMountsBelow, removeTree } from '../../shared/mounts.js';
import { present } from '../../shared/places.js';
import { setting } from './config.js';
import { type IdShift, shiftTree } from './ids.js';
import { draftPrefix, type Journal, ownerOfThisThread, type Place, writeJournal } from './journal.js';
import type { Layout } from './layout.js';
import { applyPlace, clearPlace, revertPlace, syncPlaces } from './swap.js';
import type { Tools } from './tools.js';

/** Takes everything of a swap back and brings the container into its former state. Safe to call again. */
export async function revertSwap(tools: Tools, folder: string, journal: Journal): Promise<void> {
  const { action, container, former, places } = journal;
  if (await present(join(tools.folder(container), 'config'))) await tools.stop(container);
  for (const place of places.toReversed()) await revertPlace(place);
  await writeJournal(folder, { ...journal, phase: 'building' });
  if (action === 'replace') await tools.reach(container, former);
}

/** Removes all that a draft has on disk, and with `old` what it replaced. The journal goes last. */
export async function clearDraft(folder: string, places: readonly Place[], o: { old: boolean }): Promise<void> {
  for (const place of places) await clearPlace(place, o);
  await removeTree(folder);
}

/** A container in the making; all of it stands in a journal before it is touched. */
export class LxcDraft implements Draft {
  readonly needsImage = false;
  #phase: Journal['phase'] = 'building';
  #former: ContainerState = 'stopped';
  #places: readonly Place[];
  #closed = false;

  constructor(
    readonly tools: Tools,
    readonly plan: RestorePlan,
    readonly layout: Layout,
    readonly o: {
      readonly signal: AbortSignal;
      readonly log: PluginLog;
      /** Other ids than those of the backup. */
      readonly shift?: IdShift;
      conflicts(): Promise<readonly Conflict[]>;
      supersede(own: string): Promise<void>;
    },
  ) {
    this.#places = layout.places;
  }

  async loadImage(_source: Readable): Promise<void> {
    throw new PluginError('unsupported', 'LXC keeps no images');
  }

  /** Writes the journal, makes the folders and writes the configuration. */
  async prepare(): Promise<void> {
    await this.#write('building');
    for (const folder of [...this.layout.folders.values(), ...this.layout.extra]) await mkdir(folder, { recursive: true });
    await writeFile(this.layout.config.path, this.layout.config.text, { mode: 0o644 });
    if (this.plan.action === 'replace') return;
    // a container whose root is shifted must be able to reach its own folder; nobody else may
    const shifted = setting(this.layout.config.text, 'lxc.idmap') !== undefined;
    await chmod(join(this.layout.folder, 'container'), shifted ? 0o755 : 0o770);
  }

  async folders(): Promise<ReadonlyMap<string, string>> {
    const given = this.plan.sources.map(({ name }) => name);
    return new Map([...this.layout.folders].filter(([name]) => given.includes(name)));
  }

  async commit(): Promise<{ readonly conflicts: readonly Conflict[]; readonly undo?: string }> {
    if (this.#closed) throw new PluginError('failed', 'the draft is closed');
    await this.#check();
    const conflicts = await this.o.conflicts();
    await this.#finishFiles();
    const { action, container, description } = this.plan;
    this.#former = action === 'replace' ? await this.tools.state(container) : 'stopped';
    const fresh: ContainerState = description.state === 'stopped' || conflicts.length > 0 ? 'stopped' : 'running';
    try {
      await this.#write('swapping');
      if (action === 'replace') await this.tools.stop(container);
      for (const place of this.#places) await applyPlace(place);
      await this.tools.reach(container, action === 'replace' ? this.#former : fresh);
      await this.#write('committed');
    } catch (error) {
      await this.#revert(error);
      throw error;
    }
    // Only now: a restore that fails must not cost the undo of the one before.
    await this.o
      .supersede(basename(this.layout.folder))
      .catch((error: unknown) => this.o.log('warn', `an older undo stays: ${String(error)}`));
    if (this.#undoUntil !== undefined) {
      this.#closed = true;
      return { conflicts, undo: basename(this.layout.folder).slice(draftPrefix.length) };
    }
    await this.#clear().catch((error: unknown) => this.o.log('warn', `what ${container} replaced is not removed yet: ${String(error)}`));
    return { conflicts };
  }

  async discard(): Promise<void> {
    if (this.#closed) return;
    if (this.#phase === 'swapping') await this.#revert(undefined);
    await this.#clear();
  }

  async #clear(): Promise<void> {
    await clearDraft(this.layout.folder, this.#places, { old: this.#phase === 'committed' });
    this.#closed = true;
  }

  async #revert(cause: unknown): Promise<void> {
    try {
      await revertSwap(this.tools, this.layout.folder, this.#journal('swapping'));
      this.#phase = 'building';
    } catch (error) {
      const why = `${this.plan.container} could not be brought back (${String(error)}); recover tries again`;
      throw new PluginError('failed', cause === undefined ? why : `${String(cause)}; ${why}`, { cause, retryable: true });
    }
  }

  /** What must hold before anything that exists is touched. */
  async #check(): Promise<void> {
    if (this.o.signal.aborted) throw new PluginError('aborted', 'the restore was stopped');
    const root = this.layout.folders.get('rootfs');
    if (root !== undefined && (await readdir(root)).length === 0) throw new PluginError('damaged', 'nothing was extracted into the root');
    for (const place of this.#places) {
      if (!(await present(place.built))) throw new PluginError('damaged', `nothing was extracted into ${place.built}`);
      if (!place.hadFinal && (await present(place.final))) throw new PluginError('exists', `${place.final} is there already`);
      if (place.hadFinal) await refuseMountsBelow(place.final);
    }
  }

  async #finishFiles(): Promise<void> {
    const { container, description } = this.plan;
    const root = this.layout.folders.get('rootfs');
    if (container !== description.name && root !== undefined) await emptyMachineId(root);
    const { shift, signal } = this.o;
    if (shift) for (const folder of this.layout.folders.values()) await shiftTree(folder, shift, signal);
    await syncPlaces(this.#places);
    this.#places = await Promise.all(
      this.#places.map(async (place) => (place.mode === 'entries' ? { ...place, names: await readdir(place.built) } : place)),
    );
  }

  #journal(phase: Journal['phase']): Journal {
    const { action, container } = this.plan;
    const undoUntil = this.#undoUntil;
    return {
      action,
      container,
      former: this.#former,
      owner: ownerOfThisThread(),
      phase,
      places: this.#places,
      ...(undoUntil !== undefined && { undoUntil }),
    };
  }

  get #undoUntil(): number | undefined {
    return this.plan.action === 'replace' ? this.plan.undoUntil : undefined;
  }

  async #write(phase: Journal['phase']): Promise<void> {
    await writeJournal(this.layout.folder, this.#journal(phase));
    this.#phase = phase;
  }
}

/** Two machines must not have one id; systemd makes a new one in an empty file. Links are not followed. */
async function emptyMachineId(root: string): Promise<void> {
  const etc = await lstat(join(root, 'etc')).catch(() => undefined);
  const file = join(root, 'etc', 'machine-id');
  const stats = etc?.isDirectory() ? await lstat(file).catch(() => undefined) : undefined;
  if (stats?.isFile()) await truncate(file, 0);
}
