/** Tells at any moment of a run what the service does with the container's big file. It reads synchronously, so that a kill hits what it saw. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { argumentsOf, descendants, type Process } from '../bed/process-tree.js';
import type { Look } from '../crash/bench.js';
import type { PageWriter } from './page-writer.js';

/** What a kill is to hit: the blocks of the first pass on their way, the perl that tries before the pause whether the file system clones, the
 *  container frozen, the perl that clones in the pause, and the blocks of the paused pass on their way, read from clones or from what waits. */
export type Phase = 'live' | 'trial' | 'frozen' | 'clone' | 'thawed';

/** Whether a process is the perl that clones: other ones look for inode flags and holes. FICLONE has this number. */
export const isCloning = ({ pid, name }: Process): boolean =>
  name === 'perl' && argumentsOf(pid).some((one) => one.includes(`${0x40049409}`));

/** Watches one run. */
export class BlockWatch {
  /** The service's children at the last look. */
  children: readonly Process[] = [];
  #wasFrozen = false;

  constructor(
    private readonly writer: PageWriter,
    private readonly service: number,
  ) {}

  look(): Look {
    this.children = descendants(this.service);
    const isFrozen = this.writer.isFrozen();
    return { state: isFrozen ? 'frozen' : 'running', during: this.#phase(isFrozen) };
  }

  #phase(isFrozen: boolean): Phase | 'elsewhere' {
    const perl = this.children.some(isCloning);
    if (isFrozen) return perl ? 'clone' : 'frozen';
    if (perl) return 'trial';
    const names = this.#stored().map(({ name }) => name);
    if (names.some((name) => name.startsWith('data.1.blocks'))) return 'elsewhere'; // all blocks are stored
    if (this.#wasFrozen || names.some((name) => name.startsWith('data.1.'))) return 'thawed';
    return this.#isUploading() ? 'live' : 'elsewhere';
  }

  /** Whether the phase has begun. */
  has(phase: Phase): boolean {
    const isFrozen = this.writer.isFrozen();
    this.#wasFrozen ||= isFrozen;
    if (phase === 'live') return this.#isUploading();
    if (phase === 'frozen') return isFrozen;
    if (phase === 'thawed') return this.#wasFrozen && !isFrozen;
    return isFrozen === (phase === 'clone') && descendants(this.service).some(isCloning);
  }

  /** A part file tells no name, but no other file of a later run is as large as the blocks of the big file. */
  #isUploading(): boolean {
    return this.#stored().some(({ name, bytes }) => name.endsWith('.part') && bytes > 4 << 20);
  }

  /** The files of the newest run. */
  #stored(): { readonly name: string; readonly bytes: number }[] {
    const { record } = this.writer;
    const newest = namesIn(record)
      .filter((name) => /^\d{4}-/.test(name))
      .toSorted()
      .at(-1);
    if (newest === undefined) return [];
    const folder = join(record, newest);
    return namesIn(folder).map((name) => ({ name, bytes: statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0 }));
  }
}

/** Names in a folder; none when it is gone. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
