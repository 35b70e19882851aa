/** Inode flags by lsattr, which opens each file. Its output is lines, so names that contain a line end are asked for in a second
 *  call. */
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { PluginError } from '../../contract/index.js';
import { childExit } from '../../primitives/child.js';
import { checkXargs, unquoteName } from './flags.js';
import { type ConfinedTree, confineNames, nulNames } from './sandbox.js';

/** Most names with a line end that are looked at. */
const mostOdd = 1000;
const [lineEnd, blank, backslash] = [10, 32, 92];
const keptFlags: ReadonlySet<number> = new Set(Buffer.from('iadC'));

export class LsattrLook {
  readonly #odd: string[] = [];
  /** Names with a line end beyond that limit. */
  leftOut = 0;

  constructor(
    private readonly tree: ConfinedTree,
    /** Called for each name with a stored flag: the name's bytes as latin-1, and lsattr's letters. */
    private readonly add: (name: string, said: string) => void,
    private readonly signal: AbortSignal,
  ) {}

  /** @param names lines of tar's list @throws PluginError */
  async go(names: AsyncIterable<Buffer>): Promise<void> {
    await this.#lsattr(this.#plainNames(names), async (output) => {
      let rest: Buffer = Buffer.alloc(0);
      for await (const chunk of output) rest = this.#takeLines(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]));
    });
    await this.#lookAtOdd();
  }

  /** Scans byte by byte, five times as fast as a regular expression: of a hundred thousand lines hardly any has a flag.
   *  @returns the incomplete last line */
  #takeLines(lines: Buffer): Buffer {
    let start = 0;
    for (let end = lines.indexOf(lineEnd); end >= 0; end = lines.indexOf(lineEnd, start)) {
      let at = start;
      let flagged = false;
      for (; at < end && lines[at] !== blank; at++) flagged ||= keptFlags.has(lines[at] ?? 0);
      if (flagged) this.add(lines.toString('latin1', at + 1, end), lines.toString('latin1', start, at));
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
      if (!output.startsWith(line, at)) continue; // no output: it has no flags, like a symlink, or no longer exists
      at += line.length;
      this.add(`./${name}`, said);
    }
  }

  async #lsattr(names: AsyncIterable<Buffer>, read: (output: Readable) => Promise<void>): Promise<void> {
    const child = confineNames(this.tree, ['lsattr', '-d', '--'], ['pipe', 'pipe', 'ignore']);
    const exit = childExit(child, 'lsattr', this.signal);
    if (!child.stdin || !child.stdout) throw new PluginError('failed', 'lsattr has no input or output');
    const [fed, , code] = await Promise.allSettled([pipeline(names, child.stdin), read(child.stdout), exit]);
    if (code.status === 'rejected') throw code.reason;
    checkXargs(code.value, 'lsattr');
    if (fed.status === 'rejected') throw fed.reason;
  }

  /** Names ended by NUL; those with a line end are set aside. */
  async *#plainNames(names: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const lines of names) {
      if (lines.includes(backslash)) yield this.#unquoted(lines.toString('latin1'));
      else {
        for (let at = lines.indexOf(lineEnd); at >= 0; at = lines.indexOf(lineEnd, at + 1)) lines[at] = 0;
        yield lines;
      }
    }
  }

  #unquoted(lines: string): Buffer {
    const plain = lines.split('\n').map((line) => {
      const name = unquoteName(line);
      if (!name.includes('\n')) return line === '' ? '' : `${name}\0`;
      if (this.#odd.length < mostOdd) this.#odd.push(name.slice(2).replace(/\/$/, ''));
      else this.leftOut++;
      return '';
    });
    return Buffer.from(plain.join(''), 'latin1');
  }
}
