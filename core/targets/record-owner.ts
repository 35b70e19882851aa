/** The owner of a record: the job and the appliance of its newest run. A run stores, gives up and collects nothing in another owner's
 *  record until a person takes the record over. */
import { isDeepStrictEqual } from 'node:util';
import type { NewestRun } from '../archive/index.js';
import { type Description, PluginError, type PluginLog } from '../contract/index.js';
import type { RecordOwner } from '../jobs/job.js';

/** The job that wants to write to a record. */
export interface Claim extends RecordOwner {
  /** Other jobs of this appliance with the same record name. A deleted job leaves its record to a job of its name. */
  readonly rivals: readonly number[];
  /** The owner whose record a person gave to this job. */
  readonly takeOver?: RecordOwner;
  readonly log: PluginLog;
}

type Made = Pick<NewestRun, 'run' | 'job' | 'seal' | 'container'>;

export class RecordOwned extends PluginError {
  constructor(
    readonly owner: RecordOwner,
    message: string,
  ) {
    super('record_owned', message);
  }
}

/** Longest id or name in a message: anybody may have written them. */
const mostLetters = 64;
const shorten = (text: string): string => text.slice(0, mostLetters);

/** @returns undefined for a run without a seal, as the first versions wrote them */
function ownerOf({ job, seal }: Made): RecordOwner | undefined {
  const appliance: unknown = seal?.appliance;
  return typeof appliance === 'string' ? { appliance: shorten(appliance), job: job.id } : undefined;
}

/** Whether this job may write to the owner's record: it is its own, a deleted job's, or was given by a person. */
function mayGoOn(record: string, owner: RecordOwner, { appliance, job, rivals, takeOver, log }: Claim): boolean {
  const isOwnAppliance = owner.appliance === appliance;
  if (isOwnAppliance && owner.job === job) return true;
  const isLeft = isOwnAppliance && !rivals.includes(owner.job);
  if (isLeft) log('info', `${record} goes on where job ${owner.job} left it, which has another record or is gone`);
  const isGiven = isDeepStrictEqual(owner, takeOver);
  if (isGiven) log('warn', `${record} is taken over from job ${owner.job} of appliance ${owner.appliance}`);
  return isLeft || isGiven;
}

/** @param newest the newest usable run; undefined when there is none
 *  @throws RecordOwned */
export function requireOwnRecord(record: string, newest: Made | undefined, claim: Claim): void {
  const owner = newest && ownerOf(newest);
  if (newest === undefined || owner === undefined || mayGoOn(record, owner, claim)) return;
  const appliance = owner.appliance === claim.appliance ? 'this appliance' : `another appliance, ${owner.appliance}`;
  const who = `job ${owner.job} (${shorten(newest.job.name)}) of ${appliance}`;
  const last = `its newest run is ${newest.run} of container ${shorten(newest.container.name)}`;
  const fix = `give this job another job_name or path, or say with PUT /backup/${claim.job}/take-over that its next run goes on there`;
  throw new RecordOwned(owner, `${record} belongs to ${who}; ${last}; ${fix}`);
}

/** The newest run that a further run may build on: one of this appliance and this container. Disks of two appliances may be copies of
 *  one disk, so that names, inode numbers and times do not tell their files apart, and a level on the other's base would miss changes.
 *  @throws RecordOwned */
export function findTrustedRun(
  record: string,
  newest: NewestRun | undefined,
  { name, type }: Pick<Description, 'name' | 'type'>,
  claim: Claim,
): NewestRun | undefined {
  requireOwnRecord(record, newest, claim);
  const isOwn = newest?.seal === undefined || newest.seal.appliance === claim.appliance;
  return isOwn && newest?.container.name === name && newest.container.type === type ? newest : undefined;
}
