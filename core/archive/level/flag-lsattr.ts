/** Inode flags by lsattr, which opens each file. It prints lines, so that names with a line end are looked at one by one. */
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { PluginError } from '../../contract/index.js';
import { childExit } from '../../primitives/child.js';
import { checkXargs, nulNames, unquoteName } from './flags.js';
import { type ConfinedTree, confineNames } from './sandbox.js';

/** No more odd names than these. */
const mostOdd = 1000;
const [lineEnd, blank, backslash] = [10, 32, 92];
const keptFlags: ReadonlySet<number> = new Set(Buffer.from('iadC'));

export class LsattrLook {
  readonly #odd: string[] = [];
  /** Names that were not looked at. */
  leftOut = 0;

  constructor(
    private readonly tree: ConfinedTree,
    /** Is told of each name, its bytes as latin-1, whose flags in lsattr's words hold one that is kept. */
    private readonly add: (name: string, said: string) => void,
    private readonly signal: AbortSignal,
  ) {}

  /** @param names lines as tar lists them @throws PluginError */
  async go(names: AsyncIterable<Buffer>): Promise<void> {
    await this.#lsattr(this.#plainNames(names), async (output) => {
      let rest: Buffer = Buffer.alloc(0);
      for await (const chunk of output) rest = this.#takeLines(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]));
    });
    await this.#lookAtOdd();
  }

  /** A hundred thousand lines, of which hardly any has a flag, are passed by byte by byte; that is five times as fast as a pattern.
   *  @returns what is no whole line yet */
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
      if (!output.startsWith(line, at)) continue; // it has no flags, like a link, or is gone
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

  /** Ended by NUL. */
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
