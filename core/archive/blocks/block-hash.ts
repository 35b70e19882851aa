/** Blocks of a big file and their hashes: BLAKE3, cut to 16 bytes. */
import { createRequire } from 'node:module';

type Library = typeof import('@napi-rs/blake-hash');

const load = createRequire(import.meta.url);
let library: Library | undefined;

/** Bytes of a hash. 128 bits: no two different blocks of a file ever have the same by chance. */
export const hashBytes = 16;
const leastBlock = 128 << 10;
/** Files over 64 GiB get larger blocks, so that the hashes of one file never take more than 16 MiB of memory. */
const mostBlocks = 524_288;

/** The block size for a file. A file that has hashes already keeps their size, until it would have twice the blocks.
 *  @param before the block size of those hashes */
export function blockBytesOf(size: number, before = leastBlock): number {
  let bytes = before;
  while (size > bytes * mostBlocks * (bytes === before ? 2 : 1)) bytes *= 2;
  return bytes;
}

/** Loads the library with the first block: it takes 13 ms, and a run in which no big file changed hashes none. */
const loadLibrary = (): Library => load('@napi-rs/blake-hash');

export function hashBlock(block: Buffer): Buffer {
  library ??= loadLibrary();
  return library.blake3(block).subarray(0, hashBytes);
}

/** Hash of a file's hashes: tells whether a stored list of them is whole. */
export const digestOf = (hashes: Buffer): string => hashBlock(hashes).toString('hex');
