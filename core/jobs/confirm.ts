/** Confirms that sources which the last run found empty are meant to be empty. */
import { ServiceError } from '../primitives/service-error.js';
import type { BackupRow, BackupSpec } from './job.js';
import type { JobRunner } from './schedule/job-runner.js';

/** @throws ServiceError not_found: no such job, or its last run found no source empty */
export function confirmSources(backups: JobRunner<BackupSpec>, id: number): Promise<BackupRow> {
  return backups.amend(id, (state) => {
    if (state.emptied === undefined)
      throw new ServiceError('not_found', `the last run of backup ${id} found no source empty, so there is nothing to confirm`);
    return { ...state, confirmed: state.emptied };
  });
}
