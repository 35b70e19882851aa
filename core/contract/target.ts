import type { Readable } from 'node:stream';

/** A file or folder on a target. `name` is the last part of its path. */
export interface Entry {
  readonly name: string;
  readonly folder: boolean;
  /** Bytes; 0 for a folder. */
  readonly size: number;
  /** When the file was last written, epoch ms by the clock of the place: only differences mean something. Of a folder: when an
   *  entry of it was last made, renamed or removed. Told to whoever asks for it. Of a target that does not know it, the lock of
   *  an appliance that is gone has to be removed by hand, and a listing finds no later what was removed behind its back. */
  readonly modified?: number;
  /** It is what a put has not finished, or did not live to finish. Such an entry is listed only to whoever asks for it. */
  readonly unfinished?: true;
}

/** A file that is kept as several, because the way to the place takes only whole files: joined in the order of their
 *  names they are the file. `folder` is relative to the place; hidden files in it belong to the plugin. */
export interface Pieces {
  readonly folder: string;
  readonly count: number;
}

/** What a listing tells beside names, kinds and sizes. */
export interface ListOptions {
  readonly unfinished?: boolean;
  readonly modified?: boolean;
  /** With `modified`: the times of folders are wanted, too. Without, they need not be told. */
  readonly folderTimes?: boolean;
}

/** What a put stored. */
export interface Stored {
  readonly bytes: number;
  readonly pieces?: Pieces;
}

/** What a name may be on a target. A name is one part of a path. `put` refuses with `invalid`, before it stores anything, what
 *  these rules refuse. What they do not refuse is kept to the letter, unless the server behind the target refuses it, with `invalid`,
 *  too. No target takes '', `.`, `..`, `/`, NUL or half a character; each may keep some names for its own hidden files. */
export interface NameRules {
  /** Characters that no name holds, one after the other. */
  readonly refused: string;
  /** Characters that no name ends in. */
  readonly refusedAtEnd: string;
  /** Whether names that differ only in case are certain to be two. If not, they may be one: put says `exists` then. */
  readonly caseSensitive: boolean;
  /** The longest name, in bytes of UTF-8. */
  readonly longest: number;
}

/** The rules of a target whose `supports` has none. */
export const defaultNames: NameRules = Object.freeze({ refused: '', refusedAtEnd: '', caseSensitive: false, longest: 255 });

/** What a target can do, and how. It stays as it is for as long as the target is open: whoever opens it freezes it. */
export interface TargetAbilities {
  /** A get from an offset costs no more than what it gives; without, the bytes before are read and dropped. */
  readonly range: boolean;
  /** `space` knows. */
  readonly freeSpace: boolean;
  /** A put with `replace` shows a reader the old or the new file at every moment; without, none for a moment. */
  readonly atomicReplace: boolean;
  /** How many puts and gets at a time are worth while. More are taken. */
  readonly connections: number;
  /** `defaultNames` when it is absent. */
  readonly names?: NameRules;
}

/** A place that keeps files. Opened once per job; closed by `await using`.
 *  Paths are relative to the place, parts joined by `/`; `..`, empty parts and NUL are refused with `invalid`.
 *
 *  What it must provide, whatever lies behind it:
 *  - durability: when put resolves, the file and its name survive a power cut of the place;
 *  - read-after-write: get, stat and list, of any connection to the place, show at once what put and remove have done;
 *  - whole or nothing: nobody sees a part of a file; a put that fails or is aborted changes nothing;
 *  - atomic replace: as `supports.atomicReplace` says, and never a mixture of two files;
 *  - listing: a folder is listed whole, each entry once; what puts have not finished is not in it unless asked for;
 *  - concurrency: any calls may run at the same time, also on the same path: of several puts one wins, whole;
 *  - names: as `supports.names` says; two names never lead to one file unseen. */
export interface Target extends AsyncDisposable {
  readonly supports: TargetAbilities;
  /** What the server says of itself, for a person: "SSH-2.0-OpenSSH_9.2". */
  readonly server?: string | undefined;
  /** Stores all of `source` under `path`, or nothing: a reader never sees a part. Makes parent folders.
   *  Abort or source error: leaves no trace, settles within 5 s. Resolves after the data is durable.
   *  A connection that breaks: goes on where it can be proven that nothing is lost, else fails with a retryable error.
   *  What could not be taken back then, because the server is away, is `unfinished`.
   *  @throws PluginError `exists` when path is there and `replace` is not set; no_space, read_only, unavailable, io, aborted */
  put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored>;
  /** The stored bytes, from `offset` for `length`, as many as there are: a stream that ends before `length` bytes were given has
   *  come to the end of the file, which whoever knows the right number notices by counting. At an `offset` that is the file's size
   *  there are none. One beyond it is `invalid`: the file is not the one that the offset was meant for.
   *  The call or the reading of its stream throws.
   *  @throws PluginError not_found, invalid (also a negative offset or length, and what is no regular file) */
  get(path: string, o: { signal: AbortSignal; offset?: number; length?: number }): Promise<Readable>;
  stat(path: string): Promise<Entry | undefined>;
  /** Entries of a folder, in no order; a folder that is absent is empty. '' is the top. With `unfinished`, also what puts
   *  left: whoever knows that none is under way there gives the names to `remove`. With `modified`, each entry's time. */
  list(path: string, o?: ListOptions): AsyncIterable<Entry>;
  /** File or folder tree; absent is fine. */
  remove(path: string): Promise<void>;
  /** Bytes; undefined when not known. */
  space(): Promise<{ total: number; free: number } | undefined>;
}
