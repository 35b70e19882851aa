/** Which entries of a level carry inode flags. tar lists what it packs, and a search beside it looks at that: a change of flags is a
 *  change of ctime, so that whatever a later level does not hold has the flags that it had. */
import { rm } from 'node:fs/promises';
import { LsattrLook } from './flag-lsattr.js';
import { flagsByStatus, hasFlagsInStatus } from './flag-status.js';
import { type FlaggedEntry, quoteName, unquoteName } from './flags.js';
import { countLines, listHas, type NameListPlan, readLines } from './name-list.js';
import type { ConfinedTree } from './sandbox.js';

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

/** The list is removed in the end. */
export interface SearchPlan extends NameListPlan {
  readonly tree: ConfinedTree;
  /** What the level before has. */
  readonly known: KnownFlags;
  /** A container waits for tar to end. */
  readonly inPause: boolean;
}

class FoundFlags {
  readonly #found = new Map<string, FlaggedEntry>();
  #characters = 0;

  constructor(public leftOut: number) {}

  level(entries: number): SearchedLevel {
    return { entries, flags: [...this.#found.values()], flags_left_out: this.leftOut };
  }

  /** @param name its bytes as latin-1 */
  readonly add = (name: string, said: string): void => {
    const flags = said.replace(/[^iadC]/g, '');
    const path = quoteName(name.slice(2).replace(/\/$/, '')) || '.';
    if (flags === '' || this.#found.has(path)) return;
    if (this.#found.size >= mostEntries || this.#characters + path.length > mostCharacters) return void this.leftOut++;
    this.#characters += path.length;
    this.#found.set(path, { path, flags });
  };
}

export class FlagSearch {
  constructor(
    private readonly plan: SearchPlan,
    private readonly signal: AbortSignal,
  ) {}

  /** Follows tar's list to its end. @throws PluginError */
  async go(): Promise<SearchedLevel> {
    const { plan, signal } = this;
    try {
      if (plan.inPause) await listHas(mostBeforeSearch, plan, signal);
      return (await this.#byStatus()) ?? (await this.#byLsattr());
    } finally {
      await rm(plan.list, { force: true });
    }
  }

  /** @returns undefined when it is not possible here */
  async #byStatus(): Promise<SearchedLevel | undefined> {
    const { tree, list, ended } = this.plan;
    if (!(await hasFlagsInStatus(tree))) return undefined;
    const found = this.#flags();
    const add = (line: string, flags: string) => found.add(unquoteName(line), flags);
    const entries = await flagsByStatus({ tree, list, known: this.#known(), ended, add }, this.signal);
    return entries === undefined ? undefined : found.level(entries);
  }

  async #byLsattr(): Promise<SearchedLevel> {
    const { plan, signal } = this;
    const found = this.#flags();
    const look = new LsattrLook(plan.tree, found.add, signal);
    const known = Buffer.from(this.#known(), 'latin1');
    let entries = 0;
    async function* notFound(): AsyncGenerator<Buffer> {
      yield known;
      for await (const lines of readLines(plan, signal)) {
        entries += countLines(lines);
        yield lines;
      }
    }
    await look.go(notFound());
    found.leftOut += look.leftOut;
    return found.level(entries);
  }

  #flags(): FoundFlags {
    return new FoundFlags(this.plan.known.flags_left_out ?? 0);
  }

  /** What had flags before. */
  #known(): string {
    return (this.plan.known.flags ?? []).map(({ path }) => `./${path}\n`).join('');
  }
}
