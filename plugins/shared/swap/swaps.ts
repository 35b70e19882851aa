/** A swap after its commit: stored for an undo, undone, dropped, or finished after a crash. The same for every engine. */
import { PluginError, type PluginLog } from '../../../core/contract/index.js';
import { within } from '../paths.js';
import { present } from '../presence.js';
import { isAlive } from '../primitives/owner.js';
import type { Journal, Journals } from './journal.js';
import type { Place } from './place.js';
import { keptPaths, refuseLaterMounts } from './swap.js';
import { giveBackTouched } from './touched.js';

/** A container that has a folder mounted. */
export interface PlaceUser {
  readonly container: string;
  readonly running: boolean;
  /** Host path without symlinks. */
  readonly path: string;
}

/** An engine's part of a swap. Each call is idempotent, also after it failed halfway. */
export interface SwapEngine<Own> {
  /** Reverts the swap and brings the container into its former state. */
  revert(journal: Journal<Own>): Promise<void>;
  /** Removes everything that the draft made. */
  discard(journal: Journal<Own>): Promise<void>;
  /** Removes the replaced files and container. */
  finish(journal: Journal<Own>): Promise<void>;
  /** Checks that an undo is still possible. @throws PluginError not_found */
  checkKept(journal: Journal<Own>): Promise<void>;
  /** The container's own folder, if the restore created it: an undo removes it whole. */
  ownFolder(journal: Journal<Own>): string | undefined;
  /** Turns journals of the version before into journals of today. */
  adoptEarlier(): Promise<void>;
  /** The other containers that mount folders of the host. */
  users(container: string): Promise<readonly PlaceUser[]>;
}

/** Whether two host paths are equal, or one lies in the other. */
export const overlap = (one: string, other: string): boolean => within(one, other) || within(other, one);

const isKept = <Own>(journal: Journal<Own>): boolean => journal.phase === 'done' && journal.undoUntil > 0;

/** Whether an undo failed halfway; it can be tried again. */
const isHalfUndone = <Own>(journal: Journal<Own>): boolean => journal.undoing && !isAlive(journal.owner);

/** Refuses to move a folder that a running container uses: it would see new files, or keep the old ones. @throws PluginError
 *  in_use */
export function refuseRunning(container: string, places: readonly Place[], users: readonly PlaceUser[]): void {
  for (const { way, live } of places) {
    if (way === 'carry') continue;
    const user = users.find((one) => one.running && overlap(one.path, live));
    if (user === undefined) continue;
    throw new PluginError('in_use', `${live} of ${container} is used by ${user.container}, which runs: stop ${user.container} first`);
  }
}

export class Swaps<Own> {
  #adopting: Promise<void> | undefined;

  constructor(
    readonly journals: Journals<Own>,
    private readonly engine: SwapEngine<Own>,
    private readonly log: PluginLog,
  ) {}

  /** Undoes a restore: brings the replaced files back. @throws PluginError not_found, in_use */
  async undo(id: string): Promise<void> {
    const { journals } = await this.journals.read();
    const kept = journals.find((one) => one.id === id && (isKept(one) || isHalfUndone(one)));
    if (!kept || (isKept(kept) && kept.undoUntil < Date.now())) throw new PluginError('not_found', `undo ${id} has expired or was removed`);
    if (isKept(kept)) {
      for (const path of keptPaths(kept.places)) {
        if (!(await present(path))) throw new PluginError('not_found', `${path}, which the undo needs, was removed by hand`);
      }
    }
    await this.engine.checkKept(kept);
    const users = await this.engine.users(kept.container);
    refuseRunning(kept.container, kept.places, users);
    this.#refuseUsed(kept, users);
    const places = kept.places.map((place) => this.#keepUsed(kept, place, users));
    for (const place of places) await refuseLaterMounts(place);
    // From here on the journal says `swap`: after a crash or a failure, recover or the next undo continues the revert.
    await this.#end({ ...kept, places, phase: kept.undoing ? kept.phase : 'swap', undoing: true });
  }

  /** Refuses an undo that would remove the container's own folder while another container mounts part of it. @throws PluginError
   *  in_use */
  #refuseUsed(journal: Journal<Own>, users: readonly PlaceUser[]): void {
    const own = this.engine.ownFolder(journal);
    const user = own === undefined ? undefined : users.find(({ path }) => within(path, own));
    if (user === undefined) return;
    const why = `${user.path}, which goes with ${journal.container}, is used by ${user.container}`;
    throw new PluginError('in_use', `${why}: remove that mount, or ${user.container}, first`);
  }

  /** Marks a place that the restore made to stay, if another container mounts it, a parent of it or a part of it. */
  #keepUsed(journal: Journal<Own>, place: Place, users: readonly PlaceUser[]): Place {
    const { way, live, had } = place;
    const own = this.engine.ownFolder(journal);
    if (had || way === 'carry' || (own !== undefined && within(live, own))) return place;
    const user = users.find(({ path }) => overlap(path, live));
    if (user === undefined) return place;
    this.log(
      'warn',
      `the undo for ${journal.container} leaves ${live}, which its restore made: ${user.container} has ${user.path} mounted`,
    );
    return { ...place, stays: true };
  }

  /** Removes what an undo needs. Does nothing when there is no such undo. */
  async drop(id: string): Promise<void> {
    for (const journal of (await this.journals.read()).journals) if (journal.id === id && isKept(journal)) await this.#end(journal);
  }

  /** Drops older undos: only the latest restore of a container can be undone. */
  async supersede(latest: Journal<Own>): Promise<void> {
    for (const journal of (await this.journals.read()).journals) {
      if (journal.id !== latest.id && journal.container === latest.container && isKept(journal)) await this.#end(journal);
    }
  }

  /** Finishes or reverts the swaps of dead threads, of all containers or of one. Tries all before it rejects. */
  async recover(container?: string): Promise<void> {
    const errors: unknown[] = [];
    if (container === undefined) await this.#adopt().catch((error: unknown) => errors.push(error));
    await this.journals.removeParts();
    const { journals, damaged } = await this.journals.read();
    if (container === undefined) errors.push(...damaged);
    for (const journal of journals) {
      if (container !== undefined && journal.container !== container) continue;
      if (isAlive(journal.owner) || (journal.phase === 'done' && journal.undoUntil >= Date.now())) continue;
      this.log('info', `cleaning up after a restore of ${journal.container}`, { phase: journal.phase });
      await this.#end(journal).catch((error: unknown) => errors.push(error)); // go on with the others
    }
    if (errors.length > 0) throw new PluginError('failed', errors.map(String).join('; '), { cause: errors[0] });
  }

  /** Adopts earlier journals, once at a time. A run recovers its own container only, so it never calls this. */
  #adopt(): Promise<void> {
    this.#adopting ??= this.engine.adoptEarlier().finally(() => {
      this.#adopting = undefined;
    });
    return this.#adopting;
  }

  /** Finishes or reverts a swap. Claims its journal first, because the main thread and a worker may both recover it. */
  async #end(journal: Journal<Own>): Promise<void> {
    const claimed = await this.journals.claim(journal, 'mine');
    try {
      for (const place of claimed.places) await giveBackTouched(place);
      if (claimed.phase === 'done') await this.engine.finish(claimed);
      else {
        if (claimed.phase === 'swap') await this.engine.revert(claimed);
        await this.engine.discard(claimed);
      }
      await this.journals.remove(claimed);
    } catch (error) {
      await this.journals.claim(claimed, 'nobody').catch(() => undefined); // if this fails too, the journal names this thread until it ends
      throw error;
    }
  }
}
