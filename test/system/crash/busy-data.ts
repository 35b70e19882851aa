/** The data of the containers of the crash and shutdown suites. A backup of it takes one or two seconds. Some of it changes before each
 *  run, so that the paused pass reads something. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface DataSize {
  /** Files of 1 MiB that never change. */
  readonly large: number;
  /** Files of some KiB that never change. */
  readonly small: number;
  /** Files of some KiB that each change rewrites. */
  readonly hotSmall: number;
  /** MiB of one file in which each change writes a few bytes, so that a level reads all of it again. */
  readonly hotLarge: number;
}

/** Half of the data compresses, as on a real NAS. */
function block(bytes: number): Buffer {
  const random = randomBytes(Math.ceil(bytes / 2));
  return Buffer.concat([random, Buffer.alloc(bytes - random.length, 'a line of a log that says the same again\n')]);
}

const smallBytes = (n: number): number => 500 + ((n * 997) % 7000);

async function smallFiles(folder: string, count: number, text: string): Promise<void> {
  for (let from = 0; from < count; from += 100) {
    await mkdir(join(folder, `${from}`), { recursive: true });
    const names = Array.from({ length: Math.min(100, count - from) }, (_, n) => from + n);
    await Promise.all(names.map((n) => writeFile(join(folder, `${from}`, `${n}`), `${text} ${n}\n`.repeat(smallBytes(n) / 12))));
  }
}

export async function makeData(folder: string, size: DataSize): Promise<void> {
  await mkdir(join(folder, 'large'), { recursive: true });
  for (let n = 0; n < size.large; n++) await writeFile(join(folder, 'large', `${n}`), block(1 << 20));
  await smallFiles(join(folder, 'small'), size.small, 'stays');
  await writeFile(join(folder, 'hot'), block(size.hotLarge << 20));
  await changeData(folder, size, 0);
}

/** Writes a state. In each changing file it differs from every other state. */
export async function changeData(folder: string, size: DataSize, generation: number): Promise<void> {
  await smallFiles(join(folder, 'changes'), size.hotSmall, `state ${generation}`);
  const hot = await open(join(folder, 'hot'), 'r+');
  try {
    for (let at = 0; at < size.hotLarge; at++) await hot.write(`state ${generation} `, at << 20);
  } finally {
    await hot.close();
  }
}
