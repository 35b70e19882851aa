/** Undoes a restore, or deletes what it replaced. It runs in the queue under the container's lock, so that no backup or restore of the
 *  container runs beside it. */

import { ServiceError } from '../primitives/service-error.js';
import type { JobServiceDeps } from './deps.js';
import type { Errands } from './errands.js';
import type { RestoreRow, RestoreSpec, Undo } from './job.js';
import type { JobRunner } from './schedule/job-runner.js';
import { errands as errandRows, locksOf } from './schedule/locks.js';

export interface UndoDeps extends Pick<JobServiceDeps, 'runtime'> {
  readonly restores: JobRunner<RestoreSpec>;
  readonly errands: Errands;
}

/** @throws ServiceError not_found (nothing is kept), PluginError */
export async function undoRestore({ restores, errands, runtime }: UndoDeps, id: number, what: 'bring-back' | 'drop'): Promise<RestoreRow> {
  const asked = await requireUndo(restores, id);
  return errands.run(`undo-${id}`, locksOf(errandRows.undo.locks, 'restore', asked.spec), async () => {
    const { spec, undo } = await requireUndo(restores, id); // the restore may have run again while the undo waited
    if (undo.id !== asked.undo.id) throw undoGone(id);
    const engine = runtime(spec.type);
    await (what === 'drop' ? engine.dropUndo(undo.id) : engine.undo(undo.id));
    return restores.amend(id, ({ undo: now, ...state }) => (now && now.id !== undo.id ? { ...state, undo: now } : state));
  });
}

async function requireUndo(restores: JobRunner<RestoreSpec>, id: number): Promise<{ readonly spec: RestoreSpec; readonly undo: Undo }> {
  const record = await restores.get(id);
  if (!record) throw new ServiceError('not_found', `there is no restore ${id}`);
  const { spec, state } = record;
  if (!state.undo) throw undoGone(id);
  return { spec, undo: state.undo };
}

const undoGone = (id: number) => new ServiceError('not_found', `restore ${id} has nothing to undo`);
