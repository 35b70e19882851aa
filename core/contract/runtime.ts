import type { Readable } from 'node:stream';
import type { Remap } from './remap.js';

export type ContainerState = 'running' | 'frozen' | 'stopped';

export interface ContainerSummary {
  readonly id: string; // the name, unique within its engine
  readonly name: string;
  readonly image: string; // '' when the engine knows none
  readonly state: ContainerState;
  readonly type: string; // id of the runtime plugin
}

/** What makes up a container, in neutral words, and the engine's own configuration verbatim. */
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
  /** The engine's own configuration: `format` names it (`lxc-config`, `docker-inspect`), `text` is the file as it was. */
  readonly native: { readonly format: string; readonly text: string };
  /** What does not belong to a backup, with the reason; never silently. */
  readonly left_out: readonly { readonly path: string; readonly reason: string }[];
}

export interface VolumeDescription {
  readonly name: string; // the source's name
  readonly origin: 'new' | 'host';
  readonly path: string; // on the host
  readonly mountpoint: string; // in the container
  readonly read_only: boolean;
  /** Other containers that use it too. */
  readonly shared_with: readonly string[];
  /** Further places of the container that the same folder is mounted at; it is stored once. */
  readonly also_at?: readonly string[];
  /** The folders above it on the host, outermost first: one that is missing at a restore is made so. */
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
  /** Why it cannot be read now, and what to do: a run that does not exclude it fails with this. */
  readonly unavailable?: string;
}

export interface Image {
  readonly digest: string; // the engine's id of it
  /** All of the image, as the engine's loadImage takes it. */
  open(signal: AbortSignal): Promise<Readable>;
}

export interface RestorePlan {
  /** Name the container will have. */
  readonly container: string;
  /** replace: swap the one that holds the name; create: there is none. */
  readonly action: 'create' | 'replace';
  /** As it was described when it was backed up. */
  readonly description: Description;
  /** What is restored: the sources that the run holds, or those of them that were asked for. All others of the description stay
   *  as they are. So does what the `excludes` of a source leave out, in a commit as in an undo. Without `rootfs`, a container that
   *  is replaced keeps its root and its configuration. */
  readonly sources: readonly (Pick<Source, 'name' | 'origin' | 'kind'> & Partial<Pick<Source, 'excludes'>>)[];
  readonly image?: { readonly digest: string };
  readonly remap?: Remap;
  /** What is replaced is kept until then, epoch ms, so that undo can bring it back; without it, it goes at once. */
  readonly undoUntil?: number;
}

export interface Conflict {
  readonly code: string; // port_taken, address_taken, folder_taken, …
  readonly what: string;
  readonly fix: string;
}

/** A right over the host that a container would have beyond an ordinary one. */
export interface Grant {
  readonly code: string; // privileged, host_folder, hook, …
  /** Which one, in words that a person can judge; the same text for the same right, on any appliance. */
  readonly what: string;
}

/** What a restore does with one source of the container.
 *  restore: what the run holds takes the place of what is there, or the source is made anew · keep: it is mounted as it is
 *  · join: another container has it, so it is mounted as it is · copy: a clone gets its own under a new name. */
export interface PlannedPlace {
  readonly source: string;
  readonly action: 'restore' | 'keep' | 'join' | 'copy';
  /** Where it lay when it was backed up: a path of that host, or the name of an engine's volume. */
  readonly before: string;
  /** Where it lies after the restore, likewise. */
  readonly after: string;
  /** Other containers that have it mounted. */
  readonly with?: readonly string[];
}

/** What a run did or found without failing. */
export interface Warning {
  readonly code: string; // volume_joined, run_damaged, base_damaged, not_removed, …
  readonly message: string;
  /** What to do about it. */
  readonly fix: string;
  /** How many, where it is about several; at most 100 of them by name. */
  readonly count?: number;
  readonly names?: readonly string[];
}

/** Where the container's data lies afterwards. */
export interface Placement {
  /** The root first. */
  readonly places: readonly PlannedPlace[];
  /** What a person should know of it. */
  readonly warnings: readonly Warning[];
}

/** What committing a plan would do and run into, all of it judged at one moment. */
export interface Preview extends Placement {
  /** `volume_in_use`: a running container uses what would be replaced, and the restore is refused; all others are told and leave
   *  a new container stopped, or need nothing. */
  readonly conflicts: readonly Conflict[];
  /** Every right over the host that the described container would have beyond an ordinary one, as the plan's remap leaves it:
   *  sorted, each once, in stable text. Complete: what is not listed must not be had, so what the plugin does not know is
   *  listed. */
  readonly grants: readonly Grant[];
}

/** The placement is as `Runtime.preview` foretold it. */
export interface Committed extends Placement {
  readonly conflicts: readonly Conflict[];
  readonly undo?: string;
  /** What is kept for the undo, in bytes on disk. */
  readonly undoBytes?: number;
}

/** A container in the making, beside whatever holds the name. Nothing of it is visible until commit. */
export interface Draft {
  /** Whether the engine lacks the plan's image, so that loadImage must be called before folders. */
  readonly needsImage: boolean;
  /** Takes what Image.open gave. */
  loadImage(source: Readable): Promise<void>;
  /** An empty folder to extract into, for each source of the plan. For kind 'file' the archive holds one entry
   *  (the file's base name); the draft takes it from there. */
  folders(): Promise<ReadonlyMap<string, string>>;
  /** Swaps it in; the container ends in the state the replaced one had (create: the state it was backed up in, stopped when there
   *  are conflicts). On any failure the old one is back, unchanged, in its former state. What was replaced is kept as the plan
   *  says, and `undo` names it; it is removed otherwise. @throws PluginError in_use: a running container uses what would be replaced */
  commit(): Promise<Committed>;
  /** Leaves no trace. Safe after a failed commit. */
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
  /** Freezes a running container, and disposing always resumes it; a stopped one, or one that its owner froze, stays as it is. */
  pause(id: string): Promise<AsyncDisposable>;
  /** Thaws; fine when it is not frozen. For leases that outlived their worker. */
  resume(id: string): Promise<void>;
  /** All that a restore is planned and judged by, in one look at the engine; nothing is made. The places are those of each
   *  source that the description names. `shares`: folders whose contents any container may have.
   *  @throws PluginError invalid, unsupported, exists (what the plan or its remap asks for cannot be done) */
  preview(plan: RestorePlan, o: { readonly shares: readonly string[] }): Promise<Preview>;
  /** Decides for itself where everything goes: time has passed since the preview, and what it builds must fit what is there. */
  draft(plan: RestorePlan, o: { signal: AbortSignal }): Promise<Draft>;
  /** Brings back what a commit replaced, in its former state; what replaced it is gone.
   *  @throws PluginError not_found: it was dropped, its time has passed, or its container was removed by hand
   *  · in_use: a running container uses what would be replaced, or something is mounted in it since */
  undo(id: string): Promise<void>;
  /** Removes what a commit kept; absent is fine. */
  dropUndo(id: string): Promise<void>;
  /** Removes leftovers of drafts that a crash left behind, completes or reverts a half-done swap, and removes what was
   *  kept for an undo whose time has passed. With a container's name, only what restores of that one left.
   *  It looks after all of them before it rejects with what failed. */
  recover(container?: string): Promise<void>;
}
