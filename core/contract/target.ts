import type { Readable } from 'node:stream';

/** A file or folder on a target. `name` is the last part of its path. */
export interface Entry {
  readonly name: string;
  readonly folder: boolean;
  /** Bytes; 0 for a folder. */
  readonly size: number;
  /** Time of the last write, epoch ms by the target's clock: only differences mean something. For a folder, the time when an entry
   *  was last made, renamed or removed. Given only on request. On a target without times, a stale lock of another appliance must be
   *  removed by hand, and a cached listing does not notice that files were removed behind its back. */
  readonly modified?: number;
  /** An upload that is still running or was cut off. It is listed only on request. */
  readonly unfinished?: true;
}

/** A file that is stored in pieces, because the connection carries only whole files. Joined in the order of their names they are
 *  the file. `folder` is relative to the target; hidden files in it belong to the plugin. */
export interface Pieces {
  readonly folder: string;
  readonly count: number;
}

/** What a listing gives in addition to the name, kind and size of each file and folder. */
export interface ListOptions {
  readonly unfinished?: boolean;
  readonly modified?: boolean;
  /** With `modified`: also gives the times of folders. */
  readonly folderTimes?: boolean;
}

/** What a put stored. */
export interface Stored {
  readonly bytes: number;
  readonly pieces?: Pieces;
}

/** Rules for a name, one part of a path, on a target. `put` refuses a name that breaks them with `invalid` before it stores
 *  anything. It keeps every other name to the letter, unless the server refuses it, which is `invalid` too. No target takes '',
 *  `.`, `..`, `/`, NUL or a lone surrogate; each may reserve some names for its own hidden files. */
export interface NameRules {
  /** The characters that no name may contain, in one string. */
  readonly refused: string;
  /** The characters that no name may end in. */
  readonly refusedAtEnd: string;
  /** Whether names that differ only in case are always two files. If not, they may be one file: put then throws `exists`. */
  readonly caseSensitive: boolean;
  /** The longest name, in bytes of UTF-8. */
  readonly longest: number;
}

/** The rules of a target whose `supports` has none. */
export const defaultNames: NameRules = Object.freeze({ refused: '', refusedAtEnd: '', caseSensitive: false, longest: 255 });

/** The abilities of a target. They do not change while it is open: the loader freezes them. */
export interface TargetAbilities {
  /** A get from an offset costs no more than the bytes that it gives. If false, the earlier bytes are read and dropped. */
  readonly range: boolean;
  /** Whether `space` gives a value. */
  readonly freeSpace: boolean;
  /** During a put with `replace` a reader sees the old or the new file at every moment. If false, neither exists for a moment. */
  readonly atomicReplace: boolean;
  /** How many puts and gets at a time make it faster. The target also accepts more. */
  readonly connections: number;
  /** `defaultNames` when it is absent. */
  readonly names?: NameRules;
}

/** A place that keeps files. Opened once per job; closed by `await using`.
 *  Paths are relative to the place, parts joined by `/`; `..`, empty parts and NUL are refused with `invalid`.
 *
 *  Every target must provide:
 *  - durability: when put resolves, the file and its name survive a power cut of the place;
 *  - read-after-write: get, stat and list, over any connection, show at once what put and remove have done;
 *  - whole or nothing: no reader sees a part of a file; a put that fails or is aborted changes nothing;
 *  - atomic replace: as `supports.atomicReplace` says, and never a mixture of two files;
 *  - listing: a folder is listed whole, each entry once; uploads are listed only on request;
 *  - concurrency: any calls may run at the same time, also on the same path: of several puts one wins, whole;
 *  - names: as `supports.names` says; two names never silently lead to one file. */
export interface Target extends AsyncDisposable {
  readonly supports: TargetAbilities;
  /** The server's description of itself, for a person: "SSH-2.0-OpenSSH_9.2". */
  readonly server?: string | undefined;
  /** Stores all of `source` under `path`, or nothing: a reader never sees a part. Makes parent folders.
   *  After an abort or a source error it removes the upload and settles within 5 s. Resolves after the data is durable.
   *  When the connection breaks, it continues if it can prove that nothing is lost, else it fails with a retryable error. An upload
   *  that it cannot remove, because the server is away, stays as `unfinished`.
   *  @throws PluginError `exists` when path exists and `replace` is not set; no_space, read_only, unavailable, io, aborted */
  put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored>;
  /** Reads `length` bytes from `offset`, or fewer at the end of the file: a caller that knows the length must count. An `offset` at
   *  the file's size gives no bytes. One beyond it is `invalid`, because the file is not the one that the offset was meant for.
   *  Either the call or its stream fails, with a PluginError; an abort ends the stream with `aborted`. A stream that nobody reads any
   *  more must not end the process: give it an error listener.
   *  @throws PluginError not_found, invalid (also for a negative offset or length, and for anything but a regular file) */
  get(path: string, o: { signal: AbortSignal; offset?: number; length?: number }): Promise<Readable>;
  stat(path: string): Promise<Entry | undefined>;
  /** Entries of a folder, in no order; an absent folder is empty. '' is the top. `unfinished` adds uploads: a caller that knows
   *  that none is running may remove them. `modified` adds each entry's time. */
  list(path: string, o?: ListOptions): AsyncIterable<Entry>;
  /** Removes a file or folder tree; does nothing when it is absent. */
  remove(path: string): Promise<void>;
  /** Bytes; undefined when unknown. */
  space(): Promise<{ total: number; free: number } | undefined>;
}
