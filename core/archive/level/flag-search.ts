/** Finds the entries of a level that carry inode flags, and files that changed while tar ran, in a search of tar's list beside tar.
 *  A change of flags changes ctime, so an entry that a later level does not contain still has its earlier flags. */
import { rm } from 'node:fs/promises';
import { LsattrLook } from './flag-lsattr.js';
import { hasFlagsInStatus, searchByStatus } from './flag-status.js';
import { type FlaggedEntry, quoteName, unquoteName } from './flags.js';
import type { FoundMoved } from './moved.js';
import { countLines, listHas, type NameListPlan, readLines } from './name-list.js';
import type { ConfinedTree } from './sandbox.js';

/** A manifest's limits for a source: entries, and characters of their paths. */
const mostEntries = 1000;
const mostCharacters = 65_536;
/** Bytes of names before lsattr starts in a pause; it also starts when tar ends. So it does not slow down a short level. */
const mostBeforeSearch = 65_536;

/** The flags of an archive, as its manifest has them. */
export interface KnownFlags {
  readonly flags?: readonly FlaggedEntry[];
  readonly flags_left_out?: number;
}

export interface SearchedLevel extends Required<KnownFlags> {
  /** Lines of tar's list. */
  readonly entries: number;
}

/** What the search finds. Both promises settle when tar has ended. */
export interface FoundInList {
  readonly level: Promise<SearchedLevel>;
  /** Undefined when nobody looks, or when statx cannot be used. */
  readonly moved: Promise<FoundMoved | undefined>;
}

/** The search removes the list at its end. */
export interface SearchPlan extends NameListPlan {
  readonly tree: ConfinedTree;
  /** Flags of the level before. */
  readonly known: KnownFlags;
  /** Paths that are in the level and not in tar's list, their bytes as latin-1. */
  readonly unlisted: readonly string[];
  /** A container is paused until tar ends. */
  readonly inPause: boolean;
  /** Epoch ms; a file with a later stamp has changed. */
  readonly since: number;
  /** Whether to look for files that changed. Then each file is looked at once, at tar's end, for that and for flags. */
  readonly looks: boolean;
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

export class ListSearch {
  constructor(
    private readonly plan: SearchPlan,
    private readonly signal: AbortSignal,
  ) {}

  /** Follows tar's list to its end. The promises reject with PluginError. */
  go(): FoundInList {
    const byStatus = this.#byStatus();
    const moved = byStatus.then((found) => (found ? found.moved : this.#movedByStatus()));
    const level = byStatus.then((found) => found?.level ?? this.#flagsByLsattr());
    const ended = Promise.allSettled([moved, level]).then(() => rm(this.plan.list, { force: true }));
    return { level: level.finally(() => ended), moved };
  }

  /** @returns undefined when statx cannot be used here */
  async #byStatus(): Promise<{ readonly level: SearchedLevel; readonly moved: FoundMoved | undefined } | undefined> {
    if (!(await hasFlagsInStatus(this.plan.tree))) return undefined;
    const flags = this.#flags();
    const add = (line: string, said: string) => flags.add(unquoteName(line), said);
    const found = await searchByStatus({ ...this.plan, flags: { known: this.#known(), add } }, this.signal);
    return found && { level: flags.level(found.entries), moved: found.moved };
  }

  async #movedByStatus(): Promise<FoundMoved | undefined> {
    return this.plan.looks ? (await searchByStatus(this.plan, this.signal))?.moved : undefined;
  }

  async #flagsByLsattr(): Promise<SearchedLevel> {
    const { plan, signal } = this;
    if (plan.inPause) await listHas(mostBeforeSearch, plan, signal);
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

  /** Names that had flags in the level before, and those that tar does not list, as lines. */
  #known(): string {
    const { known, unlisted } = this.plan;
    return [...(known.flags ?? []).map(({ path }) => path), ...unlisted.map(quoteName)].map((path) => `./${path}\n`).join('');
  }
}
