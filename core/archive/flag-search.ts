/** Which entries of a level carry inode flags. tar lists what it packs, and lsattr looks at that: a change of flags is a change of
 *  ctime, so that whatever a later level does not hold has the flags that it had. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError } from '../contract/index.js';
import { childExit } from './child.js';
import { type ConfinedTree, confinedNames } from './confined.js';
import { checkXargs, type FlaggedEntry, nulNames, quotedName, unquotedName } from './flags.js';

/** What a manifest takes of a source: so many entries, and so many characters of their paths. */
const mostEntries = 1000;
const mostCharacters = 65_536;
/** lsattr's output is in lines, and so names with a line end are looked at one by one: no more of them than these. */
const mostOdd = 1000;
/** lsattr is started when so many bytes of names have come, or when tar has ended: a short level is not slowed down by it. */
const startAt = 65_536;
const [lineEnd, blank, backslash] = [10, 32, 92];
const keptFlags: ReadonlySet<number> = new Set(Buffer.from('iadC'));
/** How long after its end tar's list is looked at again, in ms. */
const pause = 20;

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
  /** Whether tar has ended. */
  ended(): boolean;
}

export class FlagSearch {
  readonly #found = new Map<string, FlaggedEntry>();
  readonly #odd: string[] = [];
  #characters = 0;
  #entries = 0;
  #leftOut: number;

  constructor(
    private readonly plan: SearchPlan,
    private readonly signal: AbortSignal,
  ) {
    this.#leftOut = plan.known.flags_left_out ?? 0;
  }

  /** Follows tar's list to its end. @throws PluginError */
  async go(): Promise<SearchedLevel> {
    try {
      await this.#lookAtAll();
      await this.#lookAtOdd();
      return { entries: this.#entries, flags: [...this.#found.values()], flags_left_out: this.#leftOut };
    } finally {
      await rm(this.plan.list, { force: true });
    }
  }

  async #lookAtAll(): Promise<void> {
    const names = this.#names();
    const first: Buffer[] = [];
    for (let bytes = 0; bytes < startAt; ) {
      const { value, done } = await names.next();
      if (done) break;
      first.push(value);
      bytes += value.length;
    }
    async function* all() {
      yield* first;
      yield* names;
    }
    await this.#lsattr(all(), async (output) => {
      let rest: Buffer = Buffer.alloc(0);
      for await (const chunk of output) rest = this.#takeLines(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]));
    });
  }

  /** A hundred thousand lines, of which hardly any has a flag, are passed by byte by byte; that is five times as fast as a pattern.
   *  @returns what is no whole line yet */
  #takeLines(lines: Buffer): Buffer {
    let start = 0;
    for (let end = lines.indexOf(lineEnd); end >= 0; end = lines.indexOf(lineEnd, start)) {
      let at = start;
      let flagged = false;
      for (; at < end && lines[at] !== blank; at++) flagged ||= keptFlags.has(lines[at] ?? 0);
      if (flagged) this.#add(lines.toString('latin1', at + 3, end), lines.toString('latin1', start, at));
      start = end + 1;
    }
    return lines.subarray(start);
  }

  async #lookAtOdd(): Promise<void> {
    if (this.#odd.length === 0) return;
    let output = '';
    await this.#lsattr(Readable.from([nulNames(this.#odd)]), async (stdout) => {
      output = await text(stdout.setEncoding('latin1'));
    });
    let at = 0;
    for (const name of this.#odd) {
      const [said = ''] = output.slice(at, at + 64).split(' ', 1);
      const line = `${said} ./${name}\n`;
      if (!output.startsWith(line, at)) continue; // it has no flags, like a link, or is gone
      at += line.length;
      this.#add(name, said);
    }
  }

  async #lsattr(names: AsyncIterable<Buffer>, read: (output: Readable) => Promise<void>): Promise<void> {
    const child = confinedNames(this.plan.tree, ['lsattr', '-d', '--'], ['pipe', 'pipe', 'ignore']);
    const exit = childExit(child, 'lsattr', this.signal);
    if (!child.stdin || !child.stdout) throw new PluginError('failed', 'lsattr has no input or output');
    const [fed, , code] = await Promise.allSettled([pipeline(names, child.stdin), read(child.stdout), exit]);
    if (code.status === 'rejected') throw code.reason;
    checkXargs(code.value, 'lsattr');
    if (fed.status === 'rejected') throw fed.reason;
  }

  /** What lsattr is to look at, as it comes. */
  async *#names(): AsyncGenerator<Buffer> {
    yield Buffer.from((this.plan.known.flags ?? []).map(({ path }) => this.#plain(`./${path}`)).join(''), 'latin1');
    for await (const lines of this.#lines()) {
      const isPlain = !lines.includes(backslash);
      const text = isPlain ? '' : lines.toString('latin1');
      for (let at = lines.indexOf(lineEnd); at >= 0; at = lines.indexOf(lineEnd, at + 1)) {
        this.#entries++;
        lines[at] = 0;
      }
      yield isPlain
        ? lines
        : Buffer.from(
            text
              .split('\n')
              .map((line) => this.#plain(line))
              .join(''),
            'latin1',
          );
    }
  }

  #plain(line: string): string {
    const name = unquotedName(line);
    if (!name.includes('\n')) return line === '' ? '' : `${name}\0`;
    if (this.#odd.length < mostOdd) this.#odd.push(name.slice(2).replace(/\/$/, ''));
    else this.#leftOut++;
    return '';
  }

  /** Whole lines of tar's list, until it has ended. */
  async *#lines(): AsyncGenerator<Buffer> {
    const list: FileHandle = await open(this.plan.list, 'r');
    try {
      for (let rest: Buffer = Buffer.alloc(0); ; ) {
        const last = this.plan.ended(); // before it is read: what comes later is not missed
        const { bytesRead, buffer } = await list.read(Buffer.alloc(startAt));
        const read = buffer.subarray(0, bytesRead);
        const lines = rest.length === 0 ? read : Buffer.concat([rest, read]);
        const end = lines.lastIndexOf(lineEnd) + 1;
        rest = lines.subarray(end);
        if (end > 0) yield lines.subarray(0, end);
        else if (bytesRead === 0 && last) return;
        if (bytesRead < startAt && !last) await sleep(pause, undefined, { signal: this.signal });
      }
    } finally {
      await list.close();
    }
  }

  #add(name: string, said: string): void {
    const flags = said.replace(/[^iadC]/g, '');
    const path = quotedName(name.replace(/\/$/, '')) || '.';
    if (flags === '' || this.#found.has(path)) return;
    if (this.#found.size >= mostEntries || this.#characters + path.length > mostCharacters) return void this.#leftOut++;
    this.#characters += path.length;
    this.#found.set(path, { path, flags });
  }
}
