/** The shapes of jobs, shared by API, store, schedule and workers. Imports only types. */
import type { Shape } from '../schemas.js';

/** Settings of a job, defaults filled in. schemas/jobs/backup.json and schemas/jobs/restore.json are the manual. */
export type BackupSpec = Shape<'backup'>;
export type RestoreSpec = Shape<'restore'>;
/** The kinds of job, as schemas/jobs/history.json lists them; core/jobs/kinds.ts says what differs between them. */
export type JobKind = Shape<'history'>['kind'];
/** Settings by kind: the schema of a kind's settings has the kind's name. */
export type JobSpecs = { readonly [Name in JobKind]: Shape<Name> };
/** The container that a backup reads or a restore makes. */
export function containerOf(spec: { readonly container_id: string; readonly remap?: { readonly name?: string } }): string {
  return spec.remap?.name ?? spec.container_id;
}
/** Folds a name as a file system does that ignores case and Unicode form (SMB, exFAT). */
export const foldName = (name: string): string => name.normalize('NFC').toLowerCase();
/** When a backup runs. */
export type At = BackupSpec['at'];
/** A target and a path. A local path is /<share>/<folder>. */
export type Location = BackupSpec['dest'];
/** The state of a job. Times are epoch milliseconds; `bytes` is what the last run stored, `run` is its folder, and `undo` is what a
 *  restore replaced, while it is kept. */
export type JobState = Shape<'backup#/$defs/state'>;
export type StateCode = JobState['code'];
export type Undo = NonNullable<JobState['undo']>;
/** The appliance and the job that own a record on a target. */
export type RecordOwner = NonNullable<JobState['owner']>;
/** A job that asks for a record, and the other jobs of this appliance with the same record name. */
export interface Claimant {
  readonly id: number;
  readonly rivals: readonly number[];
}

export interface JobRow<Spec> {
  readonly id: number;
  readonly spec: Spec;
  readonly state: JobState;
}
export type BackupRow = JobRow<BackupSpec>;
export type RestoreRow = JobRow<RestoreSpec>;

/** What happens to jobs: the one stream that the API, notifications and the log listen to. */
export type JobsEvent =
  | { readonly type: 'job'; readonly kind: JobKind; readonly id: number; readonly code: StateCode | 'deleted' }
  | { readonly type: 'run'; readonly row: HistoryRow }
  | { readonly type: 'progress'; readonly progress: ProgressEvent };

export interface ProgressEvent {
  readonly id: number;
  readonly type: JobKind;
  readonly progress: number; // -1 not known or ended, else 0–99
}

/** A part of a list, by id. */
export interface Range {
  /** Only ids above it. */
  readonly after?: number;
  /** So many are left out first. */
  readonly offset?: number;
  readonly limit?: number;
}
/** Only a whole list costs more with more jobs. */
export interface JobLists<Spec> {
  list(range?: Range): Promise<JobRow<Spec>[]>;
  /** Jobs of the same folded name (`foldName`). */
  listNamed(name: string): Promise<JobRow<Spec>[]>;
  /** Jobs that use a remote target. */
  listUsing(target: number): Promise<JobRow<Spec>[]>;
}

/** The rows of one kind. Every promise resolves after fsync. Ids count from 1 and are never reused. A `late` write is one of the
 *  service's own: on a full disk it stays in memory until there is room. */
export interface JobRows<Spec> extends JobLists<Spec> {
  get(id: number): Promise<JobRow<Spec> | undefined>;
  create(spec: Spec, state: JobState): Promise<JobRow<Spec>>;
  put(record: JobRow<Spec>, when?: 'late'): Promise<void>;
  delete(id: number): Promise<void>;
}

/** A run that ended, good or bad. */
export type HistoryRow = Shape<'history'>;
/** The newest 1,000 ended runs of each job. */
export interface HistoryRows {
  /** Resolves after fsync. */
  append(row: Omit<HistoryRow, 'id'>): Promise<HistoryRow>;
  /** The newest first, of those older than the row `before`. */
  list(kind: JobKind, job: number, range: { readonly before?: number; readonly limit: number }): Promise<HistoryRow[]>;
  delete(kind: JobKind, job: number): Promise<void>;
}

/** A container that may be frozen. It is stored durably before the pause; the main thread resumes it at expiry and at start-up. */
export interface Lease {
  readonly runtime: string;
  readonly container: string;
  readonly until: number; // epoch ms
}
export interface LeaseRows {
  list(): Promise<Lease[]>;
  put(lease: Lease): Promise<void>;
  delete(runtime: string, container: string): Promise<void>;
}

/** What the first contact with a target showed: its plugin's id, and options that must be the same at the next contact. */
export type FoundTarget = Shape<'worker#/$defs/found'>;
/** A remote target as a worker gets it; `sealed` is its row, sealed under the appliance's key for `taskPurpose`. */
export type RemoteTask = Shape<'worker#/$defs/remote'>;
export const taskPurpose = (target: number): string => `order/target/${target}`;
/** What a worker knows of the appliance. */
export type WorkerEnvironment = Shape<'worker#/$defs/environment'>;
/** The workerData of one run; `kind` tells which schema it has. */
export type WorkerTask = Shape<`${JobKind}-task`>;
/** Worker → main thread. A worker closes its port after its result, and its thread ends. */
export type WorkerMessage = Shape<'worker'>;
/** Main thread → worker. */
export type WorkerRequest = Shape<'worker#/$defs/request'>;

/** The jobs of each kind, by its name. */
export type JobsByKind = { readonly [Kind in JobKind]: Jobs<JobSpecs[Kind]> };
/** The rows of each kind, by its name. */
export type RowsByKind = { readonly [Kind in JobKind]: JobRows<JobSpecs[Kind]> };

/** What the API may do with jobs. Errors are coded ServiceError. */
export interface JobService extends JobsByKind {
  /** Brings back what a restore replaced, or deletes it. Waits until no job of that container runs.
   *  @throws ServiceError not_found (there is no undo), PluginError */
  undo(restore: number, what: 'bring-back' | 'drop'): Promise<RestoreRow>;
  /** Deletes a backup's record from its target, and then the job. A second call joins the first.
   *  @throws ServiceError not_found, busy (it waits or runs); PluginError: the job stays, and the call can be repeated */
  purge(backup: number): Promise<void>;
  /** Confirms that sources are meant to be empty: the next run makes them a new base, and retention goes on.
   *  @throws ServiceError not_found (no source was found empty) */
  confirm(backup: number): Promise<BackupRow>;
  /** Gives the job the record that its last run was refused in.
   *  @throws ServiceError not_found, conflict (its last run was not refused with record_owned) */
  takeOver(backup: number): Promise<BackupRow>;
  /** Call after `backup_concurrent` changed: waiting runs may start. */
  limitChanged(): void;
  /** Call after a target's limits changed: running jobs get their new parts. */
  targetChanged(target: number): void;
  /** Progress of every running job. */
  progress(): readonly ProgressEvent[];
  progressOf(kind: JobKind, id: number): number | undefined;
  /** The attempt of a running job whose part starts over. */
  retryOf(kind: JobKind, id: number): JobState['retry'];
  /** How long a running job will pause its container, ms; known right before it does. */
  expectedPauseOf(kind: JobKind, id: number): number | undefined;
  /** Calls the listener at each event of any job. @returns a function that ends it */
  onEvent(listener: (event: JobsEvent) => void): () => void;
  /** As onEvent, for progress only; -1 is the end of a run. */
  onProgress(listener: (event: ProgressEvent) => void): () => void;
  /** Ended runs of a job, the newest first. */
  history: HistoryRows['list'];
  /** The next time of a calendar after now. */
  nextRun(at: At): number | undefined;
}
export interface Jobs<Spec> extends JobLists<Spec> {
  get(id: number): Promise<JobRow<Spec> | undefined>;
  /** Answers the row with code `init`. The job is accepted right after. */
  create(spec: Spec): Promise<JobRow<Spec>>;
  update(id: number, spec: Spec): Promise<JobRow<Spec>>;
  /** @throws ServiceError busy while waiting or running */
  delete(id: number): Promise<void>;
  /** @throws ServiceError busy while waiting or running */
  run(id: number): Promise<JobRow<Spec>>;
  /** Settles when the run has ended or left the queue. A job that does not run is left as it is. */
  stop(id: number): Promise<JobRow<Spec>>;
}
