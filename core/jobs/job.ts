/** What the API, the store and the scheduler say to each other about jobs. Imports nothing but types. */
import type { Shape } from '../schemas.js';

/** The jobs as their schemas have them, defaults filled in: schemas/backup.json and restore.json are the manual. */
export type BackupSpec = Shape<'backup'>;
export type RestoreSpec = Shape<'restore'>;
/** The kinds of job; core/jobs/kinds.ts says what differs between them. */
export type JobKind = 'backup' | 'restore';
/** Their settings, by the schema that is called as the kind. */
export type JobSpecs = { readonly [Name in JobKind]: Shape<Name> };
/** Name of the container that a job is about: what it backs up, or what a restore makes. */
export function containerOf(spec: { readonly container_id: string; readonly remap?: { readonly name?: string } }): string {
  return spec.remap?.name ?? spec.container_id;
}
/** Names that an SMB server, or the disk of a camera, takes for one are one. */
export const foldName = (name: string): string => name.normalize('NFC').toLowerCase();
/** When a backup runs. */
export type At = BackupSpec['at'];
/** Where a record lies; a local path is /<share>/<folder>. */
export type Location = BackupSpec['dest'];
/** What became of the latest run; times are epoch milliseconds. `bytes` were stored by it, `run` is its folder,
 *  `undo` is what a restore replaced, as long as it is kept. */
export type JobState = Shape<'backup#/$defs/state'>;
export type StateCode = JobState['code'];
export type Undo = NonNullable<JobState['undo']>;
/** The job, and the appliance, whose a record on a target is. */
export type RecordOwner = NonNullable<JobState['owner']>;
/** Who asks for a record: a job, and the other jobs of this appliance whose records have the same name. */
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
/** None of these but a whole list costs more as jobs become more. */
export interface JobLists<Spec> {
  list(range?: Range): Promise<JobRow<Spec>[]>;
  /** All whose job_name is the same, or one that an SMB server takes for the same. */
  listNamed(name: string): Promise<JobRow<Spec>[]>;
  /** All that use a remote target. */
  listUsing(target: number): Promise<JobRow<Spec>[]>;
}

/** A kind's records, kept durably: every promise resolves after a synced write. Ids from 1, never reused.
 *  `late`, for what the service itself found out: on a full disk it waits in memory, and is written when there is room. */
export interface JobRows<Spec> extends JobLists<Spec> {
  get(id: number): Promise<JobRow<Spec> | undefined>;
  create(spec: Spec, state: JobState): Promise<JobRow<Spec>>;
  put(record: JobRow<Spec>, when?: 'late'): Promise<void>;
  delete(id: number): Promise<void>;
}

/** A run that ended, as its job's history keeps it. */
export type HistoryRow = Shape<'history'>;
/** Ended runs, the newest 1,000 of a job. */
export interface HistoryRows {
  /** Durable when it resolves. */
  append(row: Omit<HistoryRow, 'id'>): Promise<HistoryRow>;
  /** The newest first; `before` names a row, of which only older ones are given. */
  list(kind: JobKind, job: number, range: { readonly before?: number; readonly limit: number }): Promise<HistoryRow[]>;
  delete(kind: JobKind, job: number): Promise<void>;
}

/** A container that may be frozen. Kept durably before the pause; at start-up or expiry the container is resumed. */
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
/** What a worker is given to do one run: as workerData, of the kind that `kind` names. */
export type WorkerTask = Shape<'backup-task' | 'restore-task'>;
/** Worker → main thread. After its result the worker closes its port and ends by itself. */
export type WorkerMessage = Shape<'worker'>;
/** Main thread → worker. */
export type WorkerRequest = Shape<'worker#/$defs/request'>;

/** The jobs of each kind, by its name. */
export type JobsByKind = { readonly [Kind in JobKind]: Jobs<JobSpecs[Kind]> };
/** The rows of each kind, by its name. */
export type RowsByKind = { readonly [Kind in JobKind]: JobRows<JobSpecs[Kind]> };

/** What the API may do with jobs. Errors are coded JobError. */
export interface JobService extends JobsByKind {
  /** Brings back what a restore replaced, or removes it for good. Waits until no job of that container runs.
   *  @throws JobError not_found (nothing is kept), PluginError */
  undo(restore: number, what: 'bring-back' | 'drop'): Promise<RestoreRow>;
  /** Deletes a backup's record from its target, and then the job. Joins one that goes on.
   *  @throws JobError not_found, busy (it waits or runs); PluginError: the job stays, and it can be asked for again */
  purge(backup: number): Promise<void>;
  /** A person says that what the last run found empty is to be empty: the next run takes it as its new base, and retention goes on.
   *  @throws JobError not_found (nothing waits for it) */
  confirm(backup: number): Promise<BackupRow>;
  /** A person says that the record which the last run was refused in is to be this job's: the next run goes on there.
   *  @throws JobError not_found, conflict (its last run was not refused so) */
  takeOver(backup: number): Promise<BackupRow>;
  /** `backup_concurrent` was set anew: what waits may start now. */
  limitChanged(): void;
  /** The limits of a target were set anew: runs that use it are told. */
  targetChanged(target: number): void;
  /** Progress of every running job. */
  progress(): readonly ProgressEvent[];
  progressOf(kind: JobKind, id: number): number | undefined;
  /** Of a run that goes on: the part of it that starts over, and when. */
  retryOf(kind: JobKind, id: number): JobState['retry'];
  /** Calls back at each event of any job; returns a function that ends that. */
  onEvent(listener: (event: JobsEvent) => void): () => void;
  /** Calls back at each change of any job's progress (its end is -1); returns a function that ends that. */
  onProgress(listener: (event: ProgressEvent) => void): () => void;
  /** Ended runs of a job, the newest first. */
  history: HistoryRows['list'];
  /** When the job would next run after now, as its answer shows it. */
  nextRun(at: At): number | undefined;
}
export interface Jobs<Spec> extends JobLists<Spec> {
  get(id: number): Promise<JobRow<Spec> | undefined>;
  /** The record as first answered (code `init`); the scheduler accepts it right after. */
  create(spec: Spec): Promise<JobRow<Spec>>;
  update(id: number, spec: Spec): Promise<JobRow<Spec>>;
  /** @throws JobError busy while waiting or running */
  delete(id: number): Promise<void>;
  /** @throws JobError busy while waiting or running */
  run(id: number): Promise<JobRow<Spec>>;
  /** Settles when the run has ended or, for a waiting one, left the queue; nothing to stop is fine. */
  stop(id: number): Promise<JobRow<Spec>>;
}

export class JobError extends Error {
  override readonly name = 'JobError';
  constructor(
    readonly code: 'not_found' | 'busy' | 'past' | 'conflict',
    message: string,
  ) {
    super(message);
  }
}
