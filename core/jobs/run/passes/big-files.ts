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
  /** Gets what must be closed when the run ends. */
  readonly opened: AsyncDisposable[];
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

export class BigFiles {
  #opened: Promise<OpenedTree> | undefined;
  #levels = 0;

  /** @param stem prefix of names in the work folder */
  constructor(
    private readonly source: Source,
    private readonly stem: string,
    private readonly deps: BigFilesDeps,
  ) {}

  /** Searches the source. @returns undefined when there is nothing for this level @throws PluginError */
  async find(level: BigLevel): Promise<PlannedBlocks | undefined> {
    const { tree, top } = await this.#open();
    const { least, signal } = this.deps;
    const { excludes } = this.source;
    const list = this.#path('names');
    const files = await findBigFiles({ tree, top, least, known: level.before?.entries.keys() ?? [], excludes, list }, signal);
    return files.length === 0 && level.before === undefined ? undefined : this.#plan(level, files);
  }

  /** Looks only at the files that the level before has: a container waits. tar takes those that have become big since. */
  async look(level: BigLevel & { readonly before: BlockTable }): Promise<PlannedBlocks> {
    const { top } = await this.#open();
    return this.#plan(level, await statFiles(top, level.before.entries.keys()));
  }

  /** Bytes that a level would read while a container waits: of the files that changed, unless the file system clones them. */
  async bytesToRead(before: BlockTable, signal: AbortSignal): Promise<number> {
    const { top } = await this.#open();
    const changed = (await statFiles(top, before.entries.keys())).filter((file) => !isUnchanged(file, before.entries.get(file.path)));
    if (changed.length === 0 || (await canClone(top, changed, signal))) return 0;
    return changed.reduce((bytes, { size }) => bytes + size, 0);
  }

  async #plan(level: BigLevel, files: BlockPlan['files']): Promise<PlannedBlocks> {
    const { signal, opened } = this.deps;
    const table = await TableWriter.create(this.#path(`${++this.#levels}.hashes`));
    opened.push(table);
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
    this.deps.opened.push(top);
    return { tree: { kind: 'folder', path, access: 'read', held }, top };
  }
}
