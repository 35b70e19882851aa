/** Finds the entries of a level that carry inode flags, and files that changed while tar ran, in a search of tar's list beside tar.
 *  A change of flags changes ctime, so an entry that a later level does not contain still has its earlier flags. */
import { rm } from 'node:fs/promises';
import { LsattrLook } from './flag-lsattr.js';
import { hasFlagsInStatus, type StatusFound, type StatusSearch, searchByStatus } from './flag-status.js';
import { type FlaggedEntry, quoteName, unquoteName } from './flags.js';
import type { FoundMoved } from './moved.js';
import { countLines, listHas, type NameListPlan, readLines } from './name-list.js';
import type { ConfinedTree } from './sandbox.js';

/** A manifest's limits for a source: entries, and characters of their paths. */
const mostEntries = 1000;
const mostCharacters = 65_536;
/** Bytes of names before the search starts in a pause; it also starts when tar ends. So it does not slow down a short level. */
const mostBeforeSearch = 65_536;

/** The flags of an archive, as its manifest has them. */
export interface KnownFlags {
  readonly flags?: readonly FlaggedEntry[];
  readonly flags_left_out?: number;
}

export interface SearchedLevel extends Required<KnownFlags> {
  /** Lines of tar's list. */
  readonly entries: number;
  /** Files that changed while tar ran, when they were asked for. */
  readonly moved?: FoundMoved;
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
  /** Whether files that changed will be asked for at tar's end. Then each file is looked at only then, for both. */
  readonly willWantMoved: boolean;
  /** Asked when tar has ended: whether to look for files that changed. */
  wantsMoved(): boolean;
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
      if (plan.inPause && !plan.willWantMoved) await listHas(mostBeforeSearch, plan, signal);
      return (await this.#byStatus()) ?? (await this.#byLsattr());
    } finally {
      await rm(plan.list, { force: true });
    }
  }

  /** @returns undefined when statx cannot be used here */
  async #byStatus(): Promise<SearchedLevel | undefined> {
    if (!(await hasFlagsInStatus(this.plan.tree))) return undefined;
    const found = this.#flags();
    const add = (line: string, flags: string) => found.add(unquoteName(line), flags);
    const { entries, moved } = (await this.#search({ known: this.#known(), add })) ?? {};
    return entries === undefined ? undefined : { ...found.level(entries), ...(moved && { moved }) };
  }

  /** @returns undefined when statx cannot be used here */
  async #search(flags?: StatusSearch['flags']): Promise<StatusFound | undefined> {
    const { willWantMoved, ...plan } = this.plan;
    return searchByStatus({ ...plan, beside: !willWantMoved, ...(flags && { flags }) }, this.signal);
  }

  async #byLsattr(): Promise<SearchedLevel> {
    const [level, moved] = await Promise.all([this.#flagsByLsattr(), this.#movedByStatus()]);
    return { ...level, ...(moved && { moved }) };
  }

  async #movedByStatus(): Promise<FoundMoved | undefined> {
    const { plan, signal } = this;
    if (!plan.willWantMoved) await listHas(Number.POSITIVE_INFINITY, plan, signal);
    return plan.willWantMoved || plan.wantsMoved() ? (await this.#search())?.moved : undefined;
  }

  async #flagsByLsattr(): Promise<SearchedLevel> {
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

  /** Names that had flags in the level before, and those that tar does not list, as lines. */
  #known(): string {
    const { known, unlisted } = this.plan;
    return [...(known.flags ?? []).map(({ path }) => path), ...unlisted.map(quoteName)].map((path) => `./${path}\n`).join('');
  }
}
