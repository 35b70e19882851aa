/** Samples the memory of the service and all its children, without the page cache: every file that is read or written passes through it,
 *  and the kernel frees it on demand. */
import { descendants, proportionalBytes } from '../bed/process-tree.js';

const everyMs = 100;
const mebibyte = 2 ** 20;
/** Name of a process between fork and exec. The service starts no Node, so a child with this name is a copy of the service. */
const unborn = 'node';

export interface Figures {
  readonly seconds: number;
  readonly samples: number;
  /** Peaks in MiB: of the whole time, and of its third and last quarters. In the first half a short run still starts. */
  readonly peak: number;
  readonly thirdQuarter: number;
  readonly lastQuarter: number;
  /** MiB of each command at the peak. */
  readonly parts: Readonly<Record<string, number>>;
}

interface Sample {
  readonly at: number;
  readonly bytes: number;
  readonly parts: ReadonlyMap<string, number>;
}

const inMebibytes = (bytes: number): number => Math.round((bytes / mebibyte) * 10) / 10;
const most = (samples: readonly Sample[]): number => inMebibytes(Math.max(0, ...samples.map(({ bytes }) => bytes)));

/** Samples from its construction until it is disposed. */
export class MemoryWatch implements Disposable {
  readonly #samples: Sample[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly pid: number) {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), everyMs);
  }

  #sample(): void {
    const children = descendants(this.pid);
    // before exec a child shares the service's memory, which would count twice: the next sample counts
    if (children.some(({ name }) => name === unborn)) return;
    const parts = new Map([['service', proportionalBytes(this.pid)]]);
    for (const { pid, name } of children) parts.set(name, (parts.get(name) ?? 0) + proportionalBytes(pid));
    const bytes = [...parts.values()].reduce((sum, one) => sum + one, 0);
    this.#samples.push({ at: performance.now(), bytes, parts });
  }

  figures(): Figures {
    const all = this.#samples;
    const [first] = all;
    const last = all.at(-1);
    if (!first || !last) throw new Error('nothing was sampled');
    const from = (part: number): number => first.at + (last.at - first.at) * part;
    const peak = all.reduce((a, b) => (b.bytes > a.bytes ? b : a));
    return {
      seconds: Math.round((last.at - first.at) / 100) / 10,
      samples: all.length,
      peak: most(all),
      thirdQuarter: most(all.filter(({ at }) => at >= from(0.5) && at < from(0.75))),
      lastQuarter: most(all.filter(({ at }) => at >= from(0.75))),
      parts: Object.fromEntries([...peak.parts].map(([name, bytes]) => [name, inMebibytes(bytes)])),
    };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
