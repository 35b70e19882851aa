/** Many small files with the same bytes on every machine. Half of them compress, half do not. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export const folderCount = 1000;
export const filesPerFolder = 100;
const least = 1024;
const most = 4096;
/** Of so many files, two change between two runs: 1 %. */
const changedTwoIn = 200;

/** mulberry32: a generator with 32 bits of state. zstd cannot compress its bytes. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

const words = ['backup', 'container', 'folder', 'level', 'manifest', 'pause', 'restore', 'volume', 'error', 'warning', 'info', 'debug'];

function contentOf(index: number, version: number): Buffer {
  const next = numbers(index * 1009 + version);
  const size = least + (next() % (most - least + 1));
  if (index % 2 === 0) {
    const content = Buffer.alloc(size + 4);
    for (let at = 0; at < size; at += 4) content.writeUInt32LE(next(), at);
    return content.subarray(0, size);
  }
  const lines: string[] = [];
  for (let length = 0; length < size; length += lines.at(-1)?.length ?? 1) {
    lines.push(`${next() % 100_000} ${words[next() % words.length]} ${words[next() % words.length]}\n`);
  }
  return Buffer.from(lines.join('')).subarray(0, size);
}

const folderOf = (top: string, index: number): string => join(top, String(Math.floor(index / filesPerFolder)).padStart(3, '0'));
const pathOf = (top: string, index: number): string => join(folderOf(top, index), `${String(index % filesPerFolder).padStart(2, '0')}.dat`);

/** Files at a time: Node's pool has four threads. */
async function writeAll(top: string, indexes: readonly number[], version: number): Promise<void> {
  for (let at = 0; at < indexes.length; at += 64) {
    await Promise.all(indexes.slice(at, at + 64).map((index) => writeFile(pathOf(top, index), contentOf(index, version))));
  }
}

const indexes = (first: number, step: number): number[] =>
  Array.from({ length: Math.ceil((folderCount * filesPerFolder - first) / step) }, (_, at) => first + at * step);

export async function makeSmallFiles(top: string): Promise<void> {
  for (let folder = 0; folder < folderCount; folder++) await mkdir(folderOf(top, folder * filesPerFolder), { recursive: true });
  await writeAll(top, indexes(0, 1), 0);
}

/** Gives 1 % of the files new content of another length: files of all folders, other ones in each round, as many that compress as do
 *  not. Version 0 is the original. @returns how many */
export async function changeSmallFiles(top: string, round: number, version: number): Promise<number> {
  const first = (round * 7) % changedTwoIn;
  const changed = [first, (first + 101) % changedTwoIn].flatMap((start) => indexes(start, changedTwoIn));
  await writeAll(top, changed, version);
  return changed.length;
}
