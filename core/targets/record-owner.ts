/** Whose a record on a target is: the job, and the appliance, that made its newest run. Where another one's runs lie nothing is
 *  stored, given up or collected, until a person has said that they are to be taken over. */
import { isDeepStrictEqual } from 'node:util';
import type { NewestRun } from '../archive/index.js';
import { type Description, PluginError, type PluginLog } from '../contract/index.js';
import type { RecordOwner } from '../jobs/job.js';

/** Who wants to write to a record. */
export interface Claim extends RecordOwner {
  /** Other jobs of this appliance whose records have the same name. One that is gone left its record to whoever has its name. */
  readonly rivals: readonly number[];
  /** Whose record a person gave to this job. */
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

/** Of an appliance's id, and of a name, in a message: anybody may have written them. */
const mostLetters = 64;
const shorten = (text: string): string => text.slice(0, mostLetters);

/** undefined: the run tells none, as those of the first versions. */
function ownerOf({ job, seal }: Made): RecordOwner | undefined {
  const appliance: unknown = seal?.appliance;
  return typeof appliance === 'string' ? { appliance: shorten(appliance), job: job.id } : undefined;
}

/** Whether the owner's record is this job's too: its own, that of a job which is gone, or one that a person gave to it. */
function mayGoOn(record: string, owner: RecordOwner, { appliance, job, rivals, takeOver, log }: Claim): boolean {
  const isOwnAppliance = owner.appliance === appliance;
  if (isOwnAppliance && owner.job === job) return true;
  const isLeft = isOwnAppliance && !rivals.includes(owner.job);
  if (isLeft) log('info', `${record} goes on where job ${owner.job} left it, which has another record or is gone`);
  const isGiven = isDeepStrictEqual(owner, takeOver);
  if (isGiven) log('warn', `${record} is taken over from job ${owner.job} of appliance ${owner.appliance}`);
  return isLeft || isGiven;
}

/** @param newest the newest run that can be used; undefined when there is none
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

/** The newest run of a record that is this job's, where a further one may build on it. Disks of two appliances may be copies of one,
 *  and containers of one disk may have the same names: a level of the one on a base of the other would leave out what differs.
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
