/** All that the API gets. It opens, runs and knows nothing else. */
import type { Readable } from 'node:stream';
import type { ContainerSummary, PluginLog } from '../contract/index.js';
import type { BackupSpec, JobService, RestoreSpec } from '../jobs/job.js';
import type { PluginReport } from '../plugins/loaded.js';
import type { Store, TargetRow, TargetSpec } from '../store/index.js';

export interface Folder {
  readonly name: string;
  /** Whether the service may write there. */
  readonly write: boolean;
}

export interface RemoteTargets {
  /** Connects, authenticates, reaches `base`. Anything thrown counts as not alive. */
  ping(target: TargetRow, signal: AbortSignal): Promise<boolean>;
  /** Folders below `path` ('' is the base).
   *  @throws PluginError not_found for a missing folder only; unavailable when the target's plugin is absent */
  dirs(target: TargetRow, path: string, signal: AbortSignal): Promise<Folder[]>;
  /** Writes, reads back and deletes a probe. What is wrong is told in the answer. */
  check(target: TargetRow, signal: AbortSignal): Promise<object>;
}

/** Updates of the firmware. Everything is thrown as an UpdateError, which has a code. */
export interface Updates {
  status(): Promise<object>;
  /** The bundle, checked. `body` is asked for once it is wanted: a client may be waiting for that before it sends.
   *  `length` is its size, if that is known; it is given up when `gone` is aborted. */
  receive(body: () => Readable, length: number | undefined, gone: AbortSignal): Promise<object>;
  discard(): Promise<void>;
  /** Settles once it has begun. */
  install(wishes: { readonly force: boolean; readonly reboot: boolean }): Promise<void>;
  restart(wishes: { readonly force: boolean }): Promise<void>;
}

export interface SshAccess {
  readonly enabled: boolean;
  /** Lines as sshd reads them. */
  readonly authorized_keys: readonly string[];
}
export interface SshSwitch {
  get(): Promise<SshAccess>;
  /** Keys that are left out stay. @throws ValidationError */
  set(wanted: { readonly enabled: boolean; readonly authorized_keys?: readonly string[] }): Promise<SshAccess>;
}

export interface ApiDeps {
  readonly store: Store;
  readonly jobs: JobService;
  readonly plugins: {
    readonly reports: readonly PluginReport[];
    /** Names of the options that its schema marks secret; undefined: not known, and then no option is ever shown. */
    secretOptions?(plugin: string): readonly string[] | undefined;
    /** What a plugin's schema has against a target of its type. @throws ValidationError with pointers into the target */
    checkTarget?(plugin: string, spec: TargetSpec): void;
  };
  listContainers(type?: string): Promise<ContainerSummary[]>;
  readonly localTarget: {
    /** Share name → folder of the host. */
    readonly shares: Readonly<Record<string, string>>;
    /** Folders below a path of a share ('' is its top). @throws PluginError not_found, unavailable */
    listShare(share: string, path: string): Promise<Folder[]>;
  };
  readonly remoteTargets: RemoteTargets;
  /** `gone` ends it, as it does the two below: nobody waits for the answer any more. */
  restorePlan(spec: RestoreSpec, gone: AbortSignal): Promise<object>;
  /** The runs that the target holds for the job, newest first. */
  backupRuns(spec: BackupSpec, gone: AbortSignal): Promise<object[]>;
  /** The manifest of one of them. */
  backupManifest(spec: BackupSpec, run: string, gone: AbortSignal): Promise<object | undefined>;
  /** Version of each engine by its plugin's id; '' for one that does not answer. */
  engineVersions(): Promise<Readonly<Record<string, string>>>;
  /** Only on an appliance whose firmware this service updates. */
  readonly updates?: Updates;
  /** Only on an appliance whose sshd this service switches. */
  readonly ssh?: SshSwitch;
  /** Holds the one-time code of the first admin. */
  readonly setupCodeFile: string;
  readonly log: PluginLog;
  /** Aborted when the service ends: held polls answer. */
  readonly signal?: AbortSignal;
}
