import type { Readable } from 'node:stream';
import type { Remap } from './remap.js';

export type ContainerState = 'running' | 'frozen' | 'stopped';

export interface ContainerSummary {
  readonly id: string; // the name, unique within its engine
  readonly name: string;
  readonly image: string; // '' when the engine has none
  readonly state: ContainerState;
  readonly type: string; // id of the runtime plugin
}

/** A container in neutral words, with the engine's own configuration verbatim. */
export interface Description {
  readonly arch: string; // as `uname -m`
  readonly autostart: boolean;
  readonly image: string;
  readonly name: string;
  readonly network: readonly { readonly name: string; readonly address?: string; readonly mac?: string }[];
  readonly resource: Readonly<Record<string, number | string>>;
  readonly type: string;
  readonly volume: readonly VolumeDescription[];
  readonly state: ContainerState;
  /** The engine's own configuration: `format` names its form (`lxc-config`, `docker-inspect`), `text` is the unchanged file. */
  readonly native: { readonly format: string; readonly text: string };
  /** What the backup leaves out, each with the reason. */
  readonly left_out: readonly { readonly path: string; readonly reason: string }[];
}

export interface VolumeDescription {
  readonly name: string; // the source's name
  readonly origin: 'new' | 'host';
  readonly path: string; // on the host
  readonly mountpoint: string; // in the container
  readonly read_only: boolean;
  /** Other containers that use it. */
  readonly shared_with: readonly string[];
  /** Further mount points of the same folder in the container. The folder is stored once. */
  readonly also_at?: readonly string[];
  /** Parent folders on the host, outermost first. A restore makes a missing one with these attributes. */
  readonly parents?: readonly { readonly path: string; readonly mode: number; readonly uid: number; readonly gid: number }[];
}

/** A folder (or one file) that is backed up as one chain of tar levels. */
export interface Source {
  readonly name: string; // 'rootfs' or the volume's name: [a-zA-Z0-9._-]{1,128}
  readonly origin: 'engine' | 'new' | 'host';
  readonly kind: 'folder' | 'file';
  readonly path: string; // absolute, on the host; what tar reads
  /** Patterns relative to path, as GNU tar's --exclude with --anchored takes them, beginning with './'. */
  readonly excludes: readonly string[];
  /** Why it cannot be read now, and what to do. A run that does not exclude it fails with this text. */
  readonly unavailable?: string;
}

export interface Image {
  readonly digest: string; // the engine's id of the image
  /** Opens the whole image in the form that Draft.loadImage takes. */
  open(signal: AbortSignal): Promise<Readable>;
}

export interface RestorePlan {
  /** Name of the restored container. */
  readonly container: string;
  /** replace: swap with the container of that name; create: no container has that name. */
  readonly action: 'create' | 'replace';
  /** Its description at the time of the backup. */
  readonly description: Description;
  /** The sources to restore: those of the run, or a selection of them. All other sources of the description stay unchanged, and so
   *  do files that match the `excludes` of a source, in commit and in undo. Without `rootfs`, a replaced container keeps its root
   *  and its configuration. */
  readonly sources: readonly (Pick<Source, 'name' | 'origin' | 'kind'> & Partial<Pick<Source, 'excludes'>>)[];
  readonly image?: { readonly digest: string };
  readonly remap?: Remap;
  /** Undo is possible until then, epoch ms. Without it, the replaced data is removed at once. */
  readonly undoUntil?: number;
}

export interface Conflict {
  readonly code: string; // port_taken, address_taken, folder_taken, …
  readonly what: string;
  readonly fix: string;
}

/** A right over the host that an ordinary container does not have. */
export interface Grant {
  readonly code: string; // privileged, host_folder, hook, …
  /** Names the right in words that a person can judge. The same right has the same text on every appliance. */
  readonly what: string;
}

/** What a restore does with one source of the container.
 *  restore: the run's data replaces the present data, or the source is made anew · keep: it is mounted unchanged
 *  · join: another container has it, so it is mounted unchanged · copy: a clone gets its own under a new name. */
export interface PlannedPlace {
  readonly source: string;
  readonly action: 'restore' | 'keep' | 'join' | 'copy';
  /** Where it was at the time of the backup: a path of that host, or the name of an engine's volume. */
  readonly before: string;
  /** Where it is after the restore, likewise. */
  readonly after: string;
  /** Other containers that mount it. */
  readonly with?: readonly string[];
}

/** Something that a run reports although it did not fail. */
export interface Warning {
  readonly code: string; // volume_joined, run_damaged, base_damaged, not_removed, …
  readonly message: string;
  /** What to do about it. */
  readonly fix: string;
  /** How many things it concerns; `names` lists at most 100 of them. */
  readonly count?: number;
  readonly names?: readonly string[];
}

/** Where the container's data is after the restore. */
export interface Placement {
  /** The root first. */
  readonly places: readonly PlannedPlace[];
  readonly warnings: readonly Warning[];
}

/** The effects, conflicts and grants of a plan, all judged at one moment. */
export interface Preview extends Placement {
  /** `volume_in_use` refuses the restore: a running container uses what would be replaced. All other conflicts are reported only;
   *  some leave a new container stopped. */
  readonly conflicts: readonly Conflict[];
  /** Every right over the host that an ordinary container does not have, after the plan's remap: sorted, each once, in stable text.
   *  The list is complete: the container must get no right beyond it, so the plugin also lists settings that it does not know. */
  readonly grants: readonly Grant[];
}

/** The placement equals that of `Runtime.preview`. */
export interface Committed extends Placement {
  readonly conflicts: readonly Conflict[];
  readonly undo?: string;
  /** Bytes on disk that are kept for the undo. */
  readonly undoBytes?: number;
}

/** A container in the making, beside the one that has its name. It is invisible until commit. */
export interface Draft {
  /** Whether the engine lacks the plan's image. If so, loadImage must be called before folders. */
  readonly needsImage: boolean;
  /** Loads the stream of Image.open. */
  loadImage(source: Readable): Promise<void>;
  /** One empty folder per source of the plan, to extract into. For kind 'file' the archive holds one entry (the file's base name),
   *  which the draft moves to its path. */
  folders(): Promise<ReadonlyMap<string, string>>;
  /** Swaps the draft in. The new container gets the state of the replaced one (create: its state at the backup, or stopped when
   *  there are conflicts). On any failure the old container is back, unchanged, in its former state. The replaced data is kept
   *  under the id `undo` if the plan says so, and removed otherwise. @throws PluginError in_use: a running container uses what
   *  would be replaced */
  commit(): Promise<Committed>;
  /** Removes the draft. Safe after a failed commit. */
  discard(): Promise<void>;
}

/** A container engine. Opened once per job; closed by `await using`. */
export interface Runtime extends AsyncDisposable {
  readonly supports: Readonly<{ pause: boolean; images: boolean }>;
  /** The engine's own version. @throws PluginError unavailable */
  version(): Promise<string>;
  /** @throws PluginError unavailable when the engine does not answer */
  list(): AsyncIterable<ContainerSummary>;
  /** @throws PluginError not_found */
  describe(id: string): Promise<Description>;
  /** @throws PluginError not_found, also for a volume that vanished, naming it */
  sources(id: string): Promise<readonly Source[]>;
  image(id: string): Promise<Image | undefined>;
  /** Freezes a running container; disposing always resumes it. Leaves a stopped container, or one that its owner froze, as it is. */
  pause(id: string): Promise<AsyncDisposable>;
  /** Thaws the container; does nothing when it is not frozen. For leases that outlived their worker. */
  resume(id: string): Promise<void>;
  /** Everything that a restore is planned and judged by, from one look at the engine. Makes nothing. `places` has each source that
   *  the description names. `shares`: folders whose contents any container may have.
   *  @throws PluginError invalid, unsupported, exists (what the plan or its remap asks for cannot be done) */
  preview(plan: RestorePlan, o: { readonly shares: readonly string[] }): Promise<Preview>;
  /** Plans the placement anew, because the engine may have changed since the preview. */
  draft(plan: RestorePlan, o: { signal: AbortSignal }): Promise<Draft>;
  /** Brings back what a commit replaced, in its former state, and removes the restored container.
   *  @throws PluginError not_found: it was dropped, has expired, or its container was removed by hand
   *  · in_use: a running container uses what would be replaced, or something has been mounted in it since */
  undo(id: string): Promise<void>;
  /** Removes what a commit kept; does nothing when it is gone. */
  dropUndo(id: string): Promise<void>;
  /** Removes leftovers of drafts after a crash, completes or reverts a half-done swap, and removes expired undos. With a
   *  container's name, only those of its restores. Attempts all of them before it rejects with the errors. */
  recover(container?: string): Promise<void>;
}
