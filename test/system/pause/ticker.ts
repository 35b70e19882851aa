/** A container with a gibibyte of files and a clock. Gaps between its ticks show how long it was frozen. */
import { randomFillSync } from 'node:crypto';
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PythonContainer } from './python-container.js';

const mebibyte = 1 << 20;
const folders = 32;
const filesOfFolder = 32;
export const gibibyte = folders * filesOfFolder * mebibyte;

/** Writes the time since boot every 5 ms; it is the same on the host. It has a high priority, so that a gap shows a freeze and not a busy
 *  machine. */
export const ticker = `
import os, time
os.nice(-20)
ticks = os.open('/tmp/ticks', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
while True:
    os.write(ticks, b'%d\\n' % time.monotonic_ns())
    time.sleep(0.005)
`;

const folderOf = (n: number): string => `part-${Math.floor(n / filesOfFolder)}`;
/** The file with a number, in the volume. */
export const fileOf = (n: number): string => `${folderOf(n)}/file-${n}`;

/** Text that compresses as usual files do. */
function words(bytes: number): Buffer {
  const letters = randomFillSync(Buffer.alloc(32_768)).toString('hex');
  const dictionary = Array.from({ length: 4096 }, (_, n) => letters.slice(n * 16, n * 16 + 3 + (n % 9)));
  const choices = new Uint16Array(bytes / 6);
  randomFillSync(choices);
  return Buffer.from(Array.from(choices, (choice) => dictionary[choice % 4096]).join(' ')).subarray(0, bytes);
}

/** 1024 files of 1 MiB: one half of each is random, as in pictures, the other is text. */
export async function fillGibibyte(data: string): Promise<void> {
  const half = mebibyte / 2;
  const random = randomFillSync(Buffer.alloc(64 * mebibyte));
  const text = words(64 * mebibyte);
  for (let n = 0; n < folders * filesOfFolder; n++) {
    if (n % filesOfFolder === 0) await mkdir(join(data, folderOf(n)));
    const start = (n * 3_671_111) % (random.length - half); // so far apart that a compressor finds no repetition
    await writeFile(join(data, fileOf(n)), [random.subarray(start, start + half), text.subarray(start, start + half)]);
  }
}

/** Eleven of the files, just over 1 %, spread over the volume. */
export const onePercent = Array.from({ length: 11 }, (_, n) => n * 93);

/** Overwrites files from inside the container, each with the content of the next file. */
export async function overwrite(container: PythonContainer, files: readonly number[]): Promise<void> {
  const each = 'while [ $# -gt 0 ]; do /bin/busybox dd if=$1 of=$2 bs=1M conv=notrunc; shift 2; done';
  await container.busybox('sh', '-c', each, 'sh', ...files.flatMap((n) => [`/data/${fileOf(n + 1)}`, `/data/${fileOf(n)}`]));
}

/** Gives every file a new time from inside the container, so that the next pass reads all of them. */
export async function touchAll(container: PythonContainer): Promise<void> {
  await container.busybox('sh', '-c', '/bin/busybox touch /data/*/*');
}

/** The current time of the ticker's clock, in milliseconds. */
export const bootTime = (): number => Number(process.hrtime.bigint()) / 1e6;

/** The longest gap between ticks within two times, in milliseconds. */
export async function longestSilence(container: PythonContainer, from: number, to: number): Promise<number> {
  const all = (await container.temporary('ticks')).split('\n').filter(Boolean);
  const ticks = all.map((line) => Number(line) / 1e6).filter((time) => time >= from && time <= to);
  if (ticks.length < 2) throw new Error(`${ticks.length} ticks in ${to - from} ms`);
  return ticks.reduce((longest, time, n) => Math.max(longest, time - (ticks[n - 1] ?? time)), 0);
}

/** Number of ticks so far. */
export async function tickCount(container: PythonContainer): Promise<number> {
  return (await container.temporary('ticks')).split('\n').length;
}

/** Bytes of all files below a folder; a file that is removed meanwhile counts 0. */
export async function bytesUnder(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (entry.isFile())
      bytes += await stat(join(entry.parentPath, entry.name)).then(
        ({ size }) => size,
        () => 0,
      );
  }
  return bytes;
}
