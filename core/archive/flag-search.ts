/** Which entries of a level carry inode flags. tar lists what it packs, and a search beside it looks at that: a change of flags is a
 *  change of ctime, so that whatever a later level does not hold has the flags that it had. */
import { rm } from 'node:fs/promises';
import type { ConfinedTree } from './confined.js';
import { LsattrLook } from './flag-lsattr.js';
import { flagsByStatus, hasFlagsInStatus } from './flag-status.js';
import { type FlaggedEntry, quotedName, unquotedName } from './flags.js';
import { NameList } from './name-list.js';

/** What a manifest takes of a source: so many entries, and so many characters of their paths. */
const mostEntries = 1000;
const mostCharacters = 65_536;
/** While a container waits, a search is started when so many bytes of names have come, or when tar has ended: a short level is not
 *  slowed down by it. */
const mostBeforeSearch = 65_536;

/** As a manifest has them of an archive. */
export interface KnownFlags {
  readonly flags?: readonly FlaggedEntry[];
  readonly flags_left_out?: number;
}

export interface SearchedLevel extends Required<KnownFlags> {
  /** Lines of tar's list. */
  readonly entries: number;
}

export interface SearchPlan {
  readonly tree: ConfinedTree;
  /** Which tar writes; removed in the end. */
  readonly list: string;
  /** What the level before has. */
  readonly known: KnownFlags;
  /** Aborted once tar has ended. */
  readonly ended: AbortSignal;
  /** A container waits for tar to end. */
  readonly inPause: boolean;
}

class FoundFlags {
  readonly #found = new Map<string, FlaggedEntry>();
  #characters = 0;

  constructor(public leftOut: number) {}

  get entries(): FlaggedEntry[] {
    return [...this.#found.values()];
  }

  /** @param name its bytes as latin-1 */
  readonly add = (name: string, said: string): void => {
    const flags = said.replace(/[^iadC]/g, '');
    const path = quotedName(name.slice(2).replace(/\/$/, '')) || '.';
    if (flags === '' || this.#found.has(path)) return;
    if (this.#found.size >= mostEntries || this.#characters + path.length > mostCharacters) return void this.leftOut++;
    this.#characters += path.length;
    this.#found.set(path, { path, flags });
  };
}

export class FlagSearch {
  readonly #names: NameList;

  constructor(
    private readonly plan: SearchPlan,
    private readonly signal: AbortSignal,
  ) {
    this.#names = new NameList(plan.list, plan.ended, signal);
  }

  /** Follows tar's list to its end. @throws PluginError */
  async go(): Promise<SearchedLevel> {
    try {
      const found = (await this.#byStatus()) ?? (await this.#byLsattr());
      return { entries: this.#names.entries, flags: found.entries, flags_left_out: found.leftOut };
    } finally {
      await rm(this.plan.list, { force: true });
    }
  }

  /** @returns undefined when it is not possible here */
  async #byStatus(): Promise<FoundFlags | undefined> {
    const { tree, known } = this.plan;
    if (!(await hasFlagsInStatus(tree))) return undefined;
    const found = new FoundFlags(known.flags_left_out ?? 0);
    const add = (line: string, flags: string) => found.add(unquotedName(line), flags);
    return (await flagsByStatus(tree, await this.#begun(), add, this.signal)) ? found : undefined;
  }

  async #byLsattr(): Promise<FoundFlags> {
    const { tree, known } = this.plan;
    const found = new FoundFlags(known.flags_left_out ?? 0);
    const look = new LsattrLook(tree, found.add, this.signal);
    await look.go(await this.#begun());
    found.leftOut += look.leftOut;
    return found;
  }

  /** What is to be looked at, once it is time to begin. */
  #begun(): Promise<AsyncGenerator<Buffer>> {
    return withFirst(this.#wanted(), this.plan.inPause ? mostBeforeSearch : 0);
  }

  /** As it comes. */
  async *#wanted(): AsyncGenerator<Buffer> {
    yield Buffer.from((this.plan.known.flags ?? []).map(({ path }) => `./${path}\n`).join(''), 'latin1');
    yield* this.#names.lines();
  }
}

/** The same, once so many bytes of it are there, or all. */
async function withFirst(names: AsyncGenerator<Buffer>, least: number): Promise<AsyncGenerator<Buffer>> {
  const first: Buffer[] = [];
  for (let bytes = 0; bytes < least; ) {
    const { value, done } = await names.next();
    if (done) break;
    first.push(value);
    bytes += value.length;
  }
  async function* all() {
    yield* first;
    yield* names;
  }
  return all();
}
