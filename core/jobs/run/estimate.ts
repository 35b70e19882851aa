/** How far a run is: what tar has given of what is expected. */
import { childOutcome } from '../../archive/index.js';
import type { Source } from '../../contract/index.js';

/** Allocated bytes of a folder or file, as du counts them; undefined when they cannot be told. Sparse files count as tar reads them. */
export async function sizeOf(source: Source, signal: AbortSignal): Promise<number | undefined> {
  const { code, stdout } = await childOutcome('nice', ['-n', '19', 'du', '-s', '-x', '--block-size=1', '--', source.path], signal);
  const size = Number(stdout.split('\t')[0]);
  // Exit 1 is told for a file that vanished meanwhile: an estimate need not be exact.
  return (code === 0 || code === 1) && size > 0 ? size : undefined;
}

export class Estimate {
  readonly #expected = new Map<string, number | undefined>();
  readonly #done = new Map<string, number>();
  constructor(private readonly tell: (percent: number) => void) {}

  /** undefined: not known yet; nothing is told until all are. */
  expect(part: string, bytes: number | undefined): void {
    this.#expected.set(part, bytes);
  }

  did(part: string, bytes: number): void {
    this.#done.set(part, bytes);
    const expected = [...this.#expected.values()];
    if (expected.length === 0 || expected.includes(undefined)) return;
    let total = 0;
    let done = 0;
    for (const [name, size = 0] of this.#expected) {
      total += size;
      done += Math.min(this.#done.get(name) ?? 0, size);
    }
    if (total > 0) this.tell(Math.min(99, Math.floor((done * 100) / total)));
  }
}
