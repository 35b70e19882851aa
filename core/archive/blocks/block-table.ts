/** The block table of a source: for each big file its size, times and the hashes of its blocks. It is kept with a base, as tar's
 *  snapshot file is, so that any appliance can go on from it. On a target: all hashes, one file's after the other, then an index. */
import { type FileHandle, open } from 'node:fs/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { PluginError } from '../../contract/index.js';
import { readWhole, writeWhole } from '../../primitives/whole-bytes.js';
import { parseOwn, type Shape, ValidationError } from '../../schemas.js';
import { digestOf, hashBytes } from './block-hash.js';
import { isInside } from './files/beneath.js';

/** A file as it is after a level: schemas/record/block-table-entry.json. */
export type TableEntry = Shape<'block-table-entry'>;
/** Without its place in a table. */
export type NewEntry = Omit<TableEntry, 'at' | 'digest'>;

export const blocksOf = ({ size, block_bytes }: Pick<TableEntry, 'size' | 'block_bytes'>): number => Math.ceil(size / block_bytes);

export interface BlockTable {
  readonly entries: ReadonlyMap<string, TableEntry>;
  /** @throws PluginError damaged */
  hashes(entry: TableEntry): Promise<Buffer>;
}

/** Of a base without big files. */
export const emptyTable: BlockTable = {
  entries: new Map(),
  hashes: async ({ path }) => {
    throw damaged(`it has no ${JSON.stringify(path)}`);
  },
};

const damaged = (why: string): PluginError =>
  new PluginError('damaged', `the table of block hashes is damaged: ${why}; a new base is needed`);

async function readHashes(file: FileHandle, entry: TableEntry): Promise<Buffer> {
  const hashes = await readWhole(file, Buffer.allocUnsafe(blocksOf(entry) * hashBytes), entry.at);
  if (digestOf(hashes) === entry.digest) return hashes;
  throw damaged(`the hashes of ${JSON.stringify(entry.path)} are not the ones that were stored`);
}

/** Writes the table of a level. Hashes go to a file of the work folder, in the order of the files. */
export class TableWriter implements AsyncDisposable, BlockTable {
  readonly #own = new Map<string, TableEntry>();
  readonly #inherited = new Map<string, { readonly entry: TableEntry; readonly from: BlockTable }>();
  #at = 0;

  private constructor(private readonly file: FileHandle) {}

  static async create(path: string): Promise<TableWriter> {
    return new TableWriter(await open(path, 'wx+', 0o600)); // the file of another table must not be cut
  }

  /** Adds a file that was read. @returns its digest */
  async add(file: NewEntry, hashes: Buffer): Promise<string> {
    await writeWhole(this.file, hashes, this.#at);
    const digest = digestOf(hashes);
    this.#own.set(file.path, { ...file, at: this.#at, digest });
    this.#at += hashes.length;
    return digest;
  }

  /** Adds a file that is as the level before left it. Its hashes stay where they are, so that it costs nothing. */
  inherit(entry: TableEntry, from: BlockTable): void {
    this.#inherited.set(entry.path, { entry, from });
  }

  get entries(): ReadonlyMap<string, TableEntry> {
    return new Map([...[...this.#inherited].map(([path, { entry }]) => [path, entry] as const), ...this.#own]);
  }

  has(path: string): boolean {
    return this.#own.has(path) || this.#inherited.has(path);
  }

  async hashes(entry: TableEntry): Promise<Buffer> {
    const inherited = this.#own.has(entry.path) ? undefined : this.#inherited.get(entry.path);
    return inherited ? inherited.from.hashes(inherited.entry) : readHashes(this.file, entry);
  }

  /** Bytes of the hashes in `stored`. */
  get hashBytes(): number {
    return this.#at;
  }

  /** The table of a base, as it is stored: nothing is inherited in one. */
  async *stored(): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.#at; ) {
      const { bytesRead, buffer } = await this.file.read(Buffer.allocUnsafe(Math.min(1 << 20, this.#at - at)), 0, undefined, at);
      if (bytesRead === 0) throw damaged('its file was cut');
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
    yield gzipSync(Buffer.from([...this.#own.values()].map((entry) => `${JSON.stringify(entry)}\n`).join('')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
  }
}

/** Longest index that is read, as stored and unpacked: 100,000 files. */
const mostIndex = 64 << 20;

/** A table that was stored, in a file of this machine whose hash is right. */
export class StoredTable implements AsyncDisposable, BlockTable {
  private constructor(
    private readonly file: FileHandle,
    readonly entries: ReadonlyMap<string, TableEntry>,
  ) {}

  /** @param hashBytes bytes of the hashes, before the index @throws PluginError damaged */
  static async open(path: string, hashBytes: number): Promise<StoredTable> {
    const file = await open(path, 'r');
    try {
      const length = (await file.stat()).size - hashBytes;
      if (length < 0 || length > mostIndex) throw damaged('its index has another length');
      const index = await readWhole(file, Buffer.allocUnsafe(length), hashBytes);
      return new StoredTable(file, new Map(entriesIn(index).map((entry) => [entry.path, entry])));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  hashes(entry: TableEntry): Promise<Buffer> {
    return readHashes(this.file, entry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
  }
}

function entriesIn(index: Buffer): TableEntry[] {
  const text = unpack(index);
  return text.split('\n').flatMap((line) => (line === '' ? [] : [entryIn(line)]));
}

function unpack(index: Buffer): string {
  try {
    return gunzipSync(index, { maxOutputLength: mostIndex }).toString('utf8');
  } catch (cause) {
    throw damaged(`its index cannot be unpacked (${cause})`);
  }
}

function entryIn(line: string): TableEntry {
  try {
    const entry = parseOwn('block-table-entry', JSON.parse(line));
    if (isInside(entry.path)) return entry;
  } catch (error) {
    if (!(error instanceof ValidationError || error instanceof SyntaxError)) throw error;
  }
  throw damaged('an entry of its index has another form');
}
