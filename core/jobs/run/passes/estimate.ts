/** Estimates a run's progress from the bytes that tar has written and those that are expected. */
import { childOutcome } from '../../../archive/index.js';
import type { Source } from '../../../contract/index.js';

/** Allocated bytes of a folder or file, by du; undefined when du fails. Sparse files count as tar reads them. */
export async function sizeOf(source: Source, signal: AbortSignal): Promise<number | undefined> {
  const { code, stdout } = await childOutcome('nice', ['-n', '19', 'du', '-s', '-x', '--block-size=1', '--', source.path], signal);
  const size = Number(stdout.split('\t')[0]);
  // du exits with 1 when a file vanishes meanwhile. An estimate need not be exact.
  return (code === 0 || code === 1) && size > 0 ? size : undefined;
}

export class Estimate {
  readonly #expected = new Map<string, number | undefined>();
  readonly #done = new Map<string, number>();
  constructor(private readonly tell: (percent: number) => void) {}

  /** @param bytes undefined while unknown; progress starts when all parts are known */
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
