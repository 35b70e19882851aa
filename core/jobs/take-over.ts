/** What persons have allowed a backup job, and who asks for its record. */

import type { Shape } from '../schemas.js';
import { type BackupRow, type BackupSpec, type Claimant, JobError, type JobRows } from './job.js';
import type { JobRunner } from './schedule/job-runner.js';

/** A job that comes for its record. */
export async function claimantOf(backups: Pick<JobRows<BackupSpec>, 'listNamed'>, id: number, { job_name }: BackupSpec): Promise<Claimant> {
  const rivals = (await backups.listNamed(job_name)).map((one) => one.id).filter((one) => one !== id);
  return { id, rivals };
}

type Permitted = Pick<Shape<'backup-task'>, 'confirmed' | 'rivals' | 'takeOver'>;

/** For a run that begins. */
export async function permissionsOf(backups: JobRows<BackupSpec>, id: number, spec: BackupSpec): Promise<Permitted> {
  const { confirmed = [], take_over: takeOver } = (await backups.get(id))?.state ?? {};
  const { rivals } = await claimantOf(backups, id, spec);
  return { confirmed, rivals, ...(takeOver && { takeOver }) };
}

/** A person gives the record that its last run was refused in to a job. It is that very owner's: one that comes later is asked about
 *  anew. @throws JobError not_found; conflict: its last run was not refused so */
export function takeOverRecord(backups: JobRunner<BackupSpec>, id: number): Promise<BackupRow> {
  return backups.amend(id, (state) => {
    if (state.owner === undefined)
      throw new JobError('conflict', `the last run of backup ${id} did not find its record another's; run it first, and see what it tells`);
    return { ...state, take_over: state.owner };
  });
}
