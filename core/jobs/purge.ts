/** Deletes a backup job together with its record. It runs in the queue under the record's write lock. */
import type { PluginLog } from '../contract/index.js';
import { ServiceError } from '../primitives/service-error.js';
import type { Errands } from './errands.js';
import type { BackupSpec, Claimant } from './job.js';
import type { JobRunner } from './schedule/job-runner.js';
import { errands as errandRows, locksOf } from './schedule/locks.js';
import { claimantOf } from './take-over.js';

export interface PurgeDeps {
  readonly backups: JobRunner<BackupSpec>;
  readonly errands: Errands;
  /** How many runs may use the location's target at a time; undefined for any number. */
  connections(spec: BackupSpec['dest']): Promise<number | undefined>;
  /** Deletes the record of a job from its target. @throws PluginError record_in_use, record_owned */
  purge(spec: BackupSpec, claimant: Claimant): Promise<void>;
  readonly log: PluginLog;
}

export class Purges {
  readonly #going = new Map<number, Promise<void>>();

  constructor(private readonly deps: PurgeDeps) {}

  /** A second call joins the first. The job is deleted last, so that a failed purge can be repeated.
   *  @throws ServiceError not_found, busy; PluginError: the job stays */
  purge(id: number): Promise<void> {
    const going = this.#going.get(id);
    if (going) return going;
    const begun = this.#purge(id).finally(() => this.#going.delete(id));
    this.#going.set(id, begun);
    begun.catch((error: unknown) => {
      // The client may have gone by then. A refusal was answered at once and needs no log line.
      if (!(error instanceof ServiceError)) this.deps.log('warn', `the backups of backup ${id} are not all deleted: ${error}`);
    });
    return begun;
  }

  #purge(id: number): Promise<void> {
    const { backups, errands, connections, purge } = this.deps;
    return backups.leave(id, async (spec, remove) => {
      const locks = locksOf(errandRows.purge.locks, 'backup', spec, await connections(spec.dest));
      await errands.run(`purge-${id}`, locks, async () => {
        await purge(spec, await claimantOf(backups, id, spec));
        await remove();
      });
    });
  }
}
