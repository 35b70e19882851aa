import type { Readable } from 'node:stream';

/** A file or folder on a target. `name` is the last part of its path. */
export interface Entry {
  readonly name: string;
  readonly folder: boolean;
  /** Bytes; 0 for a folder. */
  readonly size: number;
}

/** A place that keeps files. Opened once per job; closed by `await using`.
 *  Paths are relative to the place, parts joined by `/`; `..`, empty parts and NUL are refused with `invalid`. */
export interface Target extends AsyncDisposable {
  readonly supports: Readonly<{ range: boolean; freeSpace: boolean; atomicReplace: boolean; connections: number }>;
  /** Stores all of `source` under `path`, or nothing: a reader never sees a part. Makes parent folders.
   *  Abort or source error: leaves no trace, settles within 5 s. Resolves after the data is durable.
   *  @throws PluginError `exists` when path is there and `replace` is not set; no_space, read_only, unavailable, io, aborted */
  put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<{ bytes: number }>;
  /** The stored bytes, from `offset` for `length`. @throws PluginError not_found */
  get(path: string, o: { signal: AbortSignal; offset?: number; length?: number }): Promise<Readable>;
  stat(path: string): Promise<Entry | undefined>;
  /** Entries of a folder, in no order; a folder that is absent is empty. '' is the top. */
  list(path: string): AsyncIterable<Entry>;
  /** File or folder tree; absent is fine. */
  remove(path: string): Promise<void>;
  /** Bytes; undefined when not known. */
  space(): Promise<{ total: number; free: number } | undefined>;
}
