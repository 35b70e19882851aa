/** Parses what tar says on standard error while it packs a level. */
import { type MovedNames, plainPath } from './moved.js';

/** tar's blocking factor, in blocks of 512 bytes. tar's default, 20, took a tenth more processor time. */
export const recordBlocks = 64;
const recordBytes = recordBlocks * 512;

export interface TarReport {
  bytes: number; // of the tar stream before compression
  /** A file has further hard links that are not in this level. */
  outside_links?: true;
}

const harmless = [
  /: Directory has been renamed from /,
  /: Directory has been renamed$/,
  /: socket ignored$/,
  /: (file|directory) is on a different filesystem; not dumped$/, // the runtime's description lists it in left_out
  /: contains a cache directory tag/,
  /^tar: Total bytes written: /,
  /^tar: checkpoint /,
];
/** A name in a message; tar escapes its colons. */
const named = String.raw`^tar: ((?:[^:\\]|\\.)+): `;
const changed = new RegExp(`${named}(?:file changed as we read it|File shrank by \\d+ bytes; padding with zeros)$`);
const missing = '(?:No such file or directory|Stale file handle)';
const gone = new RegExp(
  `${named}(?:(?:Directory|File) .*removed before we read it|Cannot (?:stat|open|readlink|read|savedir|opendir): ${missing}|Warning: Cannot .*: No such file or directory)$`,
);
const givenUp = /^tar: Exiting with failure status due to previous errors$/;

/** At most so many names are kept; beyond it, names are only counted. */
const mostNames = 100;

class Names implements MovedNames {
  readonly names = new Set<string>();
  count = 0;
  #last = '';

  add(quoted: string): void {
    const path = plainPath(quoted);
    if (path === this.#last || this.names.has(path)) return; // tar may say two things of one file
    this.#last = path;
    this.count++;
    if (this.names.size < mostNames) this.names.add(path);
  }
}

/** Takes tar's messages line by line: reports checkpoints, notes files that changed or vanished, stores what is not harmless. */
export class TarMessages {
  readonly report: TarReport = { bytes: 0 };
  readonly problems: string[] = [];
  /** Files that changed while tar read them, and entries that vanished before it did. They explain an exit code of 1 or 2. */
  readonly changed = new Names();
  readonly gone = new Names();
  #rest = '';
  constructor(readonly onBytes: (bytes: number) => void) {}

  take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  /** Whether tar noticed that something moved. */
  get hasMoved(): boolean {
    return this.changed.count + this.gone.count > 0;
  }

  #line(line: string): void {
    const total = /^Total bytes written: (\d+)/.exec(line.replace(/^tar: /, ''));
    const checkpoint = /^tar: checkpoint (\d+)/.exec(line);
    if (total) this.report.bytes = Number(total[1]);
    else if (line.startsWith('tar: Missing links to ')) this.report.outside_links = true;
    else if (checkpoint) this.onBytes(Number(checkpoint[1]) * recordBytes);
    else if (!this.#isMove(line) && line !== '' && !harmless.some((pattern) => pattern.test(line)) && this.problems.length < 20)
      this.problems.push(line);
  }

  #isMove(line: string): boolean {
    const [, changedName] = changed.exec(line) ?? [];
    const [, goneName] = gone.exec(line) ?? [];
    if (changedName !== undefined) this.changed.add(changedName);
    else if (goneName !== undefined) this.gone.add(goneName);
    return changedName !== undefined || goneName !== undefined || (this.hasMoved && givenUp.test(line));
  }
}
