/** Estimates a run's progress from the bytes that tar has written and those that are expected. */
import { stat } from 'node:fs/promises';

/** Allocated bytes of a single file; undefined when it is gone, which its reader reports. */
export async function sizeOfFile(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found && found.blocks * 512;
}

export class Estimate {
  readonly #expected = new Map<string, number | undefined>();
  readonly #done = new Map<string, number>();
  constructor(private readonly tell: (percent: number) => void) {}

  /** @param bytes undefined while unknown; progress starts when all parts are known */
  expect(part: string, bytes: number | undefined): void {
    this.#expected.set(part, bytes);
  }

  expectUnlessKnown(part: string, bytes: number | undefined): void {
    if (this.#expected.get(part) === undefined) this.expect(part, bytes);
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
