/** A file that changes only through a shared mapping (mmap). The writer numbers its pages in turn for ever. So the latest number determines
 *  the whole file, and an older page shows a torn or stale copy. */
import { randomFillSync } from 'node:crypto';

const page = 4096;
/** Random filler, which does not compress. It makes the paused pass long enough to be seen from outside. */
const pages = 16_384;

/** Stores into each page's first word, then its last. A store into a page that is already dirty does not change the file's time. */
export const mmapWriter = `
import mmap, os
words = memoryview(mmap.mmap(os.open('/data/mapped', os.O_RDWR), 0)).cast('Q')
number = 0
while True:
    for first in range(0, len(words), ${page / 8}):
        number += 1
        words[first] = number
        words[first + ${page / 8 - 1}] = number
`;

/** The file before the first store. */
export function blankMapped(): Buffer {
  const blank = randomFillSync(Buffer.alloc(page * pages));
  for (let n = 0; n < pages; n++) {
    blank.writeBigUInt64LE(0n, n * page);
    blank.writeBigUInt64LE(0n, (n + 1) * page - 8);
  }
  return blank;
}

/** The latest number in the file. */
export function latest(content: Buffer): bigint {
  let found = 0n;
  for (let n = 0; n + page <= content.length; n += page) {
    const value = content.readBigUInt64LE(n);
    if (value > found) found = value;
  }
  return found;
}

/** The file after store `number`, or after its first half. */
export function momentOf(blank: Buffer, number: bigint, half: boolean): Buffer {
  const content = Buffer.from(blank);
  const all = BigInt(pages);
  for (let n = 0n; n < all; n++) {
    if (number <= n) break;
    const value = number - ((number - 1n - n) % all);
    const before = value > all ? value - all : 0n;
    content.writeBigUInt64LE(value, Number(n) * page);
    content.writeBigUInt64LE(half && value === number ? before : value, (Number(n) + 1) * page - 8);
  }
  return content;
}

/** A difference from the file at every single moment; undefined when the content is that of one moment. */
export function tornBy(blank: Buffer, content: Buffer): string | undefined {
  if (content.length !== blank.length) return `${content.length} bytes instead of ${blank.length}`;
  const number = latest(content);
  if ([false, true].some((half) => momentOf(blank, number, half).equals(content))) return undefined;
  const expected = momentOf(blank, number, false);
  const isWrong = (n: number) => expected.compare(content, n * page, (n + 1) * page, n * page, (n + 1) * page) !== 0;
  const wrong = Array.from({ length: pages }, (_, n) => n).filter(isWrong);
  return `${wrong.length} of ${pages} pages are not of moment ${number}, page ${wrong[0]} the first`;
}
