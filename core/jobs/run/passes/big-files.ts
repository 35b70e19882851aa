/** The big files of one source over the levels of a run: which tar leaves out, and the table that each level builds on. */
import { join } from 'node:path';
import {
  type BlockPlan,
  type BlockTable,
  canClone,
  findBigFiles,
  heldElsewhere,
  isUnchanged,
  openTop,
  statFiles,
  TableWriter,
} from '../../../archive/index.js';
import type { Source } from '../../../contract/index.js';

export interface BigFilesDeps {
  readonly workFolder: string;
  readonly signal: AbortSignal;
  /** Least size of a big file, bytes. */
  readonly least: number;
}

export interface BigLevel {
  /** The table of the level before; undefined for a base. */
  readonly before: BlockTable | undefined;
  /** As Comparison.reference. */
  readonly reference: number;
  /** As BlockPlan.looks. */
  readonly looks: boolean;
}

type OpenedTree = Pick<BlockPlan, 'tree' | 'top'>;

/** A level's blocks, and the table that it writes. */
export interface PlannedBlocks extends BlockPlan {
  readonly table: TableWriter;
}

/** The big files of all sources of a run. */
export class BigFilesOfSources implements AsyncDisposable {
  readonly #files: ReadonlyMap<string, BigFiles>;

  constructor(sources: readonly Source[], deps: BigFilesDeps) {
    const folders = sources.filter(({ kind }) => kind === 'folder');
    this.#files = new Map(folders.map((source, index) => [source.name, new BigFiles(source, `${index}.big`, deps)]));
  }

  /** @returns undefined for a single file, which tar reads whole */
  of({ name }: Source): BigFiles | undefined {
    return this.#files.get(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const files of this.#files.values()) await files[Symbol.asyncDispose]();
  }
}

export class BigFiles implements AsyncDisposable {
  readonly #closing: AsyncDisposable[] = [];
  #opened: Promise<OpenedTree> | undefined;
  #levels = 0;

  /** @param stem prefix of names in the work folder */
  constructor(
    private readonly source: Source,
    private readonly stem: string,
    private readonly deps: BigFilesDeps,
  ) {}

  /** Searches the source for its base. @returns its size on the disk, and blocks if it has big files @throws PluginError */
  async find(level: Omit<BigLevel, 'before'>): Promise<{ readonly bytes: number; readonly blocks?: PlannedBlocks }> {
    const { tree } = await this.#open();
    const { least, signal } = this.deps;
    const { files, bytes } = await findBigFiles({ tree, least, excludes: this.source.excludes, list: this.#path('names') }, signal);
    return { bytes, ...(files.length > 0 && { blocks: await this.#plan({ ...level, before: undefined }, files) }) };
  }

  /** Looks only at the files that the level before has. tar takes those that have become big since the base: a search of 100,000 files
   *  would cost each run 0.2 s. @returns undefined when there are none */
  async look(level: BigLevel & { readonly before: BlockTable }): Promise<PlannedBlocks | undefined> {
    if (level.before.entries.size === 0) return undefined;
    const { top } = await this.#open();
    return this.#plan(level, await statFiles(top, level.before.entries.keys()));
  }

  /** What a level would do while a container waits: clone the files that changed, where the file system can, or read their bytes. */
  async readsInPause(before: BlockTable, signal: AbortSignal): Promise<{ readonly bytes: number; readonly clones: boolean }> {
    const { top } = await this.#open();
    const changed = (await statFiles(top, before.entries.keys())).filter((file) => !isUnchanged(file, before.entries.get(file.path)));
    const clones = changed.length > 0 && (await canClone(top, changed, signal));
    return { clones, bytes: clones ? 0 : changed.reduce((bytes, { size }) => bytes + size, 0) };
  }

  async #plan(level: BigLevel, files: BlockPlan['files']): Promise<PlannedBlocks> {
    const { signal } = this.deps;
    const table = await TableWriter.create(this.#path(`${++this.#levels}.hashes`));
    this.#closing.push(table);
    return { ...(await this.#open()), ...level, files, table, workFolder: this.#path(`${this.#levels}.stand-ins`), signal };
  }

  #path(name: string): string {
    return join(this.deps.workFolder, `${this.stem}.${name}`);
  }

  #open(): Promise<OpenedTree> {
    this.#opened ??= this.#openTree();
    return this.#opened;
  }

  async #openTree(): Promise<OpenedTree> {
    const { path } = this.source;
    const held = await heldElsewhere(path);
    const top = held ?? (await openTop(path));
    this.#closing.push(top);
    return { tree: { kind: 'folder', path, access: 'read', held }, top };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened?.catch(() => undefined);
    await Promise.allSettled(this.#closing.map((one) => one[Symbol.asyncDispose]()));
  }
}
