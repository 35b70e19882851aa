/** Files that changed or vanished while a level was read. Their copies may be torn, or of another moment than the files beside them. */
import { quoteName, unquoteName } from './flags.js';

export type DatabaseKind = 'sqlite' | 'postgresql' | 'mysql' | 'redis';

export interface MovedFile {
  /** As FlaggedEntry.path. */
  readonly path: string;
  /** The database that it belongs to: its kind, and the path of its file or folder. */
  readonly database?: { readonly kind: DatabaseKind; readonly path: string };
}

export interface MovedFiles {
  /** How many; `files` lists at most 100 of them, those of databases first. */
  readonly count: number;
  readonly files: readonly MovedFile[];
  /** Bytes of those whose stamps show the change. */
  readonly bytes: number;
  /** Whether the stamps show all changes that tar noticed. Otherwise a later level would miss some. */
  readonly isStamped: boolean;
}

/** What a look at the stamps finds. */
export type FoundMoved = Pick<MovedFiles, 'count' | 'files' | 'bytes'>;

/** Names in tar's messages. */
export interface MovedNames {
  readonly count: number;
  readonly names: ReadonlySet<string>;
}

const mostFiles = 100;

/** The same items, with those of databases first. */
export const databasesFirst = <T>(items: readonly T[], fileOf: (item: T) => MovedFile): T[] => {
  const isOfDatabase = (item: T) => fileOf(item).database !== undefined;
  return [...items.filter(isOfDatabase), ...items.filter((item) => !isOfDatabase(item))];
};

/** The first files, those of databases before others. */
export const firstFiles = (files: readonly MovedFile[]): MovedFile[] => databasesFirst(files, (file) => file).slice(0, mostFiles);

/** Adds up what moved in the two parts of a level. */
export function addMoved(one: MovedFiles | undefined, other: MovedFiles | undefined): MovedFiles | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return {
    count: one.count + other.count,
    files: firstFiles([...one.files, ...other.files]),
    bytes: one.bytes + other.bytes,
    isStamped: one.isStamped && other.isStamped,
  };
}

/** The path of a name in tar's list or messages, which begins with `./` and may quote more than quoteName does. */
export const plainPath = (quoted: string): string => quoteName(unquoteName(quoted).slice(2).replace(/\/$/, '')) || '.';

const isKind = (kind: string): kind is DatabaseKind => ['sqlite', 'postgresql', 'mysql', 'redis'].includes(kind);

/** Parses a file of the script's output: the kind and path of its database, and its own path, with tabs between. */
export function parseMovedFile(line: string): MovedFile {
  const [kind = '', database = '', path = ''] = line.split('\t');
  return { path: plainPath(path), ...(isKind(kind) && { database: { kind, path: plainPath(database) } }) };
}

/** Joins what tar said with what a look at the stamps found. @returns undefined when nothing moved */
export function joinMoved(
  told: { readonly changed: MovedNames; readonly gone: MovedNames },
  found: FoundMoved = { count: 0, files: [], bytes: 0 },
): MovedFiles | undefined {
  const known = new Set(found.files.map(({ path }) => path));
  const unseen = [...told.changed.names].filter((path) => !known.has(path)).map((path) => ({ path }));
  const isStamped = found.count > found.files.length ? told.changed.count <= found.count : unseen.length === 0;
  const count = Math.max(found.count, told.changed.count, isStamped ? 0 : known.size + unseen.length) + told.gone.count;
  if (count === 0) return undefined;
  const gone = [...told.gone.names].map((path) => ({ path }));
  const files = [...found.files, ...unseen, ...gone].slice(0, mostFiles);
  return { count, files, bytes: found.bytes, isStamped };
}

/** Most characters of a name that a person is shown. */
const mostShown = 200;

/** A path for people: UTF-8 as text, with control and format characters quoted; other bytes stay quoted. Its middle is cut. */
export function showPath(path: string): string {
  const text = asText(Buffer.from(unquoteName(path), 'latin1')) ?? path;
  if (text.length <= mostShown) return text;
  const half = mostShown / 2 - 1;
  return `${text.slice(0, half)}…${text.slice(-half)}`.replace(/[\ud800-\udbff]…[\udc00-\udfff]?|…[\udc00-\udfff]/u, '…');
}

function asText(bytes: Buffer): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return text.replace(/[\p{C}\p{Zl}\p{Zp}\\]/gu, (one) => quoteName(Buffer.from(one).toString('latin1')));
  } catch {
    return undefined; // not UTF-8
  }
}
