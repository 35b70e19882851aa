/** A person says that what a run found empty is to be empty. */
import { type BackupRow, type BackupSpec, JobError } from './job.js';
import type { JobRunner } from './schedule/job-runner.js';

/** @throws JobError not_found: the job is gone, or its last run found nothing empty */
export function confirmSources(backups: JobRunner<BackupSpec>, id: number): Promise<BackupRow> {
  return backups.amend(id, (state) => {
    if (state.emptied === undefined)
      throw new JobError('not_found', `the last run of backup ${id} found no source empty; nothing waits to be confirmed`);
    return { ...state, confirmed: state.emptied };
  });
}
