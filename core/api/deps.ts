/** Dependencies of the API. It opens and runs nothing else. */
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
  /** Connects, authenticates, reaches `base`. Any error counts as not alive. */
  ping(target: TargetRow, signal: AbortSignal): Promise<boolean>;
  /** Folders below `path` ('' is the base).
   *  @throws PluginError not_found for a missing folder only; unavailable when the target's plugin is absent */
  dirs(target: TargetRow, path: string, signal: AbortSignal): Promise<Folder[]>;
  /** Writes, reads back and deletes a probe file. The answer lists the problems. */
  check(target: TargetRow, signal: AbortSignal): Promise<object>;
}

/** Updates of the firmware. All errors are UpdateErrors with a code. */
export interface Updates {
  status(): Promise<object>;
  /** Receives and checks a bundle. Calls `body` only when it wants the upload, because a client with `Expect: 100-continue` sends
   *  nothing before.
   *  `length` is its size, if known. `gone` aborts it. */
  receive(body: () => Readable, length: number | undefined, gone: AbortSignal): Promise<object>;
  discard(): Promise<void>;
  /** Settles once the installation has begun. */
  install(wishes: { readonly force: boolean; readonly reboot: boolean }): Promise<void>;
  restart(wishes: { readonly force: boolean }): Promise<void>;
}

export interface SshAccess {
  readonly enabled: boolean;
  /** Lines in sshd's form. */
  readonly authorized_keys: readonly string[];
}
export interface SshSwitch {
  get(): Promise<SshAccess>;
  /** Keeps the keys when `authorized_keys` is absent. @throws ValidationError */
  set(wanted: { readonly enabled: boolean; readonly authorized_keys?: readonly string[] }): Promise<SshAccess>;
}

export interface ApiDeps {
  readonly store: Store;
  readonly jobs: JobService;
  readonly plugins: {
    readonly reports: readonly PluginReport[];
    /** Names of the options that the plugin's schema marks secret. If undefined, they are unknown, and the API shows no option. */
    secretOptions?(plugin: string): readonly string[] | undefined;
    /** Checks a target against its plugin's schema. @throws ValidationError with pointers into the target */
    checkTarget?(plugin: string, spec: TargetSpec): void;
  };
  listContainers(type?: string): Promise<ContainerSummary[]>;
  /** What belongs to a container, and its big files. `gone` aborts the search. @throws PluginError not_found, unavailable */
  viewContainer(container: { readonly type: string; readonly id: string; readonly gone: AbortSignal }): Promise<object>;
  readonly localTarget: {
    /** Share name → folder on the host. */
    readonly shares: Readonly<Record<string, string>>;
    /** Folders below a path of a share ('' is its top). @throws PluginError not_found, unavailable */
    listShare(share: string, path: string): Promise<Folder[]>;
  };
  readonly remoteTargets: RemoteTargets;
  /** `gone` aborts it and the two below when the client disconnects. */
  restorePlan(spec: RestoreSpec, gone: AbortSignal): Promise<object>;
  /** The job's runs on the target, newest first. */
  backupRuns(spec: BackupSpec, gone: AbortSignal): Promise<object[]>;
  /** The manifest of a run. */
  backupManifest(spec: BackupSpec, run: string, gone: AbortSignal): Promise<object | undefined>;
  /** Version of each engine by its plugin's id; '' if it does not answer. */
  engineVersions(): Promise<Readonly<Record<string, string>>>;
  /** Present only on an appliance whose firmware this service updates. */
  readonly updates?: Updates;
  /** Present only on an appliance whose sshd this service switches. */
  readonly ssh?: SshSwitch;
  /** File with the one-time code for making the first admin. */
  readonly setupCodeFile: string;
  readonly log: PluginLog;
  /** Aborted when the service ends, so that long polls answer. */
  readonly signal?: AbortSignal;
}
