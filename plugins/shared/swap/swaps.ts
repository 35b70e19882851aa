/** The life of a swap after its draft: kept for an undo, undone, given up, or ended after a crash. The same for every engine. */
import { PluginError, type PluginLog } from '../../../core/contract/index.js';
import { isAlive } from '../owner.js';
import { within } from '../paths.js';
import { present } from '../places.js';
import type { Journal, Journals } from './journal.js';
import type { Place } from './place.js';
import { keptPaths, refuseLaterMounts } from './swap.js';
import { giveBackTouched } from './touched.js';

/** A container that has a folder mounted. */
export interface PlaceUser {
  readonly container: string;
  readonly running: boolean;
  /** Host path, without links on the way. */
  readonly path: string;
}

/** What only the engine can do about a swap. Each may be asked again after it failed halfway. */
export interface SwapEngine<Own> {
  /** Takes the swap back, and brings the container into its former state. */
  revert(journal: Journal<Own>): Promise<void>;
  /** Removes all that a draft made. */
  discard(journal: Journal<Own>): Promise<void>;
  /** Removes what was replaced. */
  finish(journal: Journal<Own>): Promise<void>;
  /** Why an undo is no longer possible. @throws PluginError not_found */
  checkKept(journal: Journal<Own>): Promise<void>;
  /** The container's own folder, if the restore made that one anew: an undo removes it whole. */
  ownFolder(journal: Journal<Own>): string | undefined;
  /** Turns what the version before left into journals of today. */
  adoptEarlier(): Promise<void>;
  /** Who else has folders of the host mounted. */
  users(container: string): Promise<readonly PlaceUser[]>;
}

/** Whether two host paths are one, or one lies in the other. */
export const overlap = (one: string, other: string): boolean => within(one, other) || within(other, one);

const isKept = <Own>(journal: Journal<Own>): boolean => journal.phase === 'done' && journal.undoUntil > 0;

/** An undo that failed; it can be asked for again. */
const isHalfUndone = <Own>(journal: Journal<Own>): boolean => journal.undoing && !isAlive(journal.owner);

/** Refuses to move what a running container uses: it would see the change, or keep seeing what is gone. @throws PluginError in_use */
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

  /** Brings back what a commit replaced. @throws PluginError not_found, in_use */
  async undo(id: string): Promise<void> {
    const { journals } = await this.journals.read();
    const kept = journals.find((one) => one.id === id && (isKept(one) || isHalfUndone(one)));
    if (!kept || (isKept(kept) && kept.undoUntil < Date.now())) throw new PluginError('not_found', `what undo ${id} kept is gone`);
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
    // From here on a crash or a failure ends the way back, too: recover, or the next undo, goes on with it.
    await this.#end({ ...kept, places, phase: kept.undoing ? kept.phase : 'swap', undoing: true });
  }

  /** What goes with its container cannot stay for another one. @throws PluginError in_use */
  #refuseUsed(journal: Journal<Own>, users: readonly PlaceUser[]): void {
    const own = this.engine.ownFolder(journal);
    const user = own === undefined ? undefined : users.find(({ path }) => within(path, own));
    if (user === undefined) return;
    const why = `${user.path}, which goes with ${journal.container}, is used by ${user.container}`;
    throw new PluginError('in_use', `${why}: remove that mount, or ${user.container}, first`);
  }

  /** A folder or file that the restore made stays where another container has it by now, itself, a parent or a child of it. */
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

  /** Removes what a commit kept; absent is fine. */
  async drop(id: string): Promise<void> {
    for (const journal of (await this.journals.read()).journals) if (journal.id === id && isKept(journal)) await this.#end(journal);
  }

  /** Only the latest replacement of a container can be undone. */
  async supersede(latest: Journal<Own>): Promise<void> {
    for (const journal of (await this.journals.read()).journals) {
      if (journal.id !== latest.id && journal.container === latest.container && isKept(journal)) await this.#end(journal);
    }
  }

  /** Ends what dead threads left, or of one container; looks after all before it rejects. */
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
      await this.#end(journal).catch((error: unknown) => errors.push(error)); // the others are still looked after
    }
    if (errors.length > 0) throw new PluginError('failed', errors.map(String).join('; '), { cause: errors[0] });
  }

  /** One at a time. Runs of their own ask for their container alone, and never come here. */
  #adopt(): Promise<void> {
    this.#adopting ??= this.engine.adoptEarlier().finally(() => {
      this.#adopting = undefined;
    });
    return this.#adopting;
  }

  /** Goes back, or removes what was replaced. It is claimed first: main and a worker may both look after it. */
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
      await this.journals.claim(claimed, 'nobody').catch(() => undefined); // it stays ours in the file then, until this thread ends
      throw error;
    }
  }
}
