/** A big file, and small changes of it that can be taken back. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Blocks of the archive format. */
const blockBytes = 128 << 10;
/** The times of a file prove that it did not change when they are two seconds older than the run. */
const settleMs = 3500;

/** `count` ranges of `length` random bytes each, from `start` on `stride` bytes apart. */
export interface Change {
  readonly what: string;
  readonly start: number;
  readonly stride: number;
  readonly count: number;
  readonly length: number;
}

const page = 4096;

/** @param size of the file, a multiple of a block, bytes */
export function changesOf(size: number): readonly Change[] {
  const blocks = Math.floor(size / 100 / blockBytes);
  return [
    { what: '1 page', start: size / 2, stride: 0, count: 1, length: page },
    { what: '1 % in one place', start: size / 4, stride: 0, count: 1, length: blocks * blockBytes },
    { what: 'a page in 1 % of the blocks', start: 0, stride: 100 * blockBytes, count: blocks, length: page },
    { what: '64 MiB appended', start: size, stride: 0, count: 1, length: 64 << 20 },
  ];
}

/** Bytes of the blocks that differ. */
export const changedBytes = ({ count, length }: Change): number => count * Math.ceil(length / blockBytes) * blockBytes;

/** Keeps what was there in a file beside. */
const change = `import os, sys
path, kept, start, stride, count, length = *sys.argv[1:3], *map(int, sys.argv[3:])
with open(path, 'r+b') as file, open(kept, 'wb') as before:
    for n in range(count):
        file.seek(start + n * stride)
        before.write(file.read(length))
        file.seek(start + n * stride)
        file.write(os.urandom(length))`;

const takeBack = `import sys
path, kept, size, start, stride, count, length = *sys.argv[1:3], *map(int, sys.argv[3:])
with open(path, 'r+b') as file, open(kept, 'rb') as before:
    for n in range(count):
        file.seek(start + n * stride)
        file.write(before.read(length))
    file.truncate(size)`;

export class BigFile {
  readonly #kept: string;

  /** @param size bytes */
  constructor(
    readonly path: string,
    readonly size: number,
    work: string,
  ) {
    this.#kept = `${work}/kept`;
  }

  /** Random bytes, so that no tool gains by compression. */
  async fillRandom(): Promise<void> {
    const cipher = 'openssl enc -aes-128-ctr -nosalt -K 00000000000000000000000000000000 -iv 00000000000000000000000000000000';
    await this.#make(`head -c ${this.size} /dev/zero | ${cipher}`);
  }

  /** 64 KiB over and over: a backup of it takes no space. */
  async fillRepeated(): Promise<void> {
    await this.#make(`perl -e '$text = join "", map chr(rand 256), 1 .. 65536; print $text for 1 .. ${this.size / 65536}'`);
  }

  async change({ start, stride, count, length }: Change): Promise<void> {
    await run('python3', ['-c', change, this.path, this.#kept, ...[start, stride, count, length].map(String)]);
    await sleep(settleMs);
  }

  async takeBack({ start, stride, count, length }: Change): Promise<void> {
    await run('python3', ['-c', takeBack, this.path, this.#kept, ...[this.size, start, stride, count, length].map(String)]);
    await rm(this.#kept);
  }

  /** Reads it, so that it is in the page cache. */
  async warm(): Promise<void> {
    await run('sh', ['-c', 'cat -- "$0" >/dev/null', this.path]);
  }

  async #make(command: string): Promise<void> {
    await run('sh', ['-c', `${command} >"$0" && sync -f "$0"`, this.path]);
    await sleep(settleMs);
  }
}
