/** Lets a person give a record to a job, and collects what persons have allowed for the job's next run. */

import { ServiceError } from '../primitives/service-error.js';
import type { Shape } from '../schemas.js';
import type { BackupRow, BackupSpec, Claimant, JobRows } from './job.js';
import type { JobRunner } from './schedule/job-runner.js';

/** The job, and its rivals for a record of that name. */
export async function claimantOf(backups: Pick<JobRows<BackupSpec>, 'listNamed'>, id: number, { job_name }: BackupSpec): Promise<Claimant> {
  const rivals = (await backups.listNamed(job_name)).map((one) => one.id).filter((one) => one !== id);
  return { id, rivals };
}

type Permitted = Pick<Shape<'backup-task'>, 'confirmed' | 'rivals' | 'takeOver'>;

/** What persons allowed for the run that begins. */
export async function permissionsOf(backups: JobRows<BackupSpec>, id: number, spec: BackupSpec): Promise<Permitted> {
  const { confirmed = [], take_over: takeOver } = (await backups.get(id))?.state ?? {};
  const { rivals } = await claimantOf(backups, id, spec);
  return { confirmed, rivals, ...(takeOver && { takeOver }) };
}

/** Gives a job the record that its last run was refused in. The permission names the present owner: with another owner the next run is
 *  refused again. @throws ServiceError not_found; conflict: the last run was not refused with record_owned */
export function takeOverRecord(backups: JobRunner<BackupSpec>, id: number): Promise<BackupRow> {
  return backups.amend(id, (state) => {
    if (state.owner === undefined)
      throw new ServiceError(
        'conflict',
        `the last run of backup ${id} did not find its record another's; run it first, and see what it tells`,
      );
    return { ...state, take_over: state.owner };
  });
}
