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

/** A place that keeps files. Opened once per job; closed by `await using`.
 *  Paths are relative to the place, parts joined by `/`; `..`, empty parts and NUL are refused with `invalid`. */
export interface Target extends AsyncDisposable {
  /** range: a get from an offset costs no more than what it gives; without, the bytes before are read and dropped.
   *  connections: how many puts and gets at a time are worth while. */
  readonly supports: Readonly<{ range: boolean; freeSpace: boolean; atomicReplace: boolean; connections: number }>;
  /** What the server says of itself, for a person: "SSH-2.0-OpenSSH_9.2". */
  readonly server?: string | undefined;
  /** Stores all of `source` under `path`, or nothing: a reader never sees a part. Makes parent folders.
   *  Abort or source error: leaves no trace, settles within 5 s. Resolves after the data is durable.
   *  A connection that breaks: goes on where it can be proven that nothing is lost, else fails with a retryable error.
   *  What could not be taken back then, because the server is away, is `unfinished`.
   *  @throws PluginError `exists` when path is there and `replace` is not set; no_space, read_only, unavailable, io, aborted */
  put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored>;
  /** The stored bytes, from `offset` for `length`. @throws PluginError not_found */
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
