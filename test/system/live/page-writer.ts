/** A container with one big file on a file system of its own. It writes pages into the file all the time, one after the other, so that an
 *  image of the file tells whether it is of one moment. */
import { execFile } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, readFile, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import type { Appliance } from '../../support/appliance.js';
import { startLxc } from '../../support/lxc.js';
import { ownFileSystem } from '../bed/own-file-system.js';
import { type Engine, lxcEngine } from '../crash/busy-container.js';

const run = promisify(execFile);

export const fileName = 'disk.img';
const pageBytes = 4096;
/** The container writes to the first page of every 32 KiB. What lies between does not compress and never changes. */
const pageAreaBytes = 32 << 10;
/** Odd, so that in a file of 2^n areas as many writes in a row reach each area once. */
const stride = 389;
const areaOf = (write: number, areas: number): number => (write * stride) % areas;

/** Each write is a page with its number. Every sixteenth waits for the disk. The folder /tmp is in the container's memory. */
const loop = (areas: number): string => `
n=0
while [ ! -e /tmp/stop ]; do
  n=$((n + 1))
  conv=notrunc,sync
  [ $((n % 16)) = 0 ] && conv=$conv,fsync
  echo $n > /tmp/n
  /bin/busybox dd if=/tmp/n of=/data/${fileName} bs=${pageBytes} count=1 seek=$((n * ${stride} % ${areas} * ${pageAreaBytes / pageBytes})) conv=$conv status=none || exit 1
done`;

export interface Image {
  /** Number of the last write that it has. */
  readonly last: number;
  /** One line for each area that is not as it was after that write. */
  readonly wrong: readonly string[];
  /** SHA-256 of what the container does not write. */
  readonly rest: string;
}

/** Reads a copy of the file. */
export async function readImage(path: string): Promise<Image> {
  const bytes = await readFile(path);
  const areas = bytes.length / pageAreaBytes;
  const found = Array.from({ length: areas }, (_, area) => {
    const page = bytes.subarray(area * pageAreaBytes, area * pageAreaBytes + pageBytes);
    const write = Number(/^(\d+)\n\0*$/.exec(page.toString('latin1'))?.[1] ?? Number.NaN);
    page.fill(0);
    return write;
  });
  const last = Math.max(...found);
  const expected = new Array<number>(areas).fill(0);
  for (let write = Math.max(1, last - areas + 1); write <= last; write++) expected[areaOf(write, areas)] = write;
  const wrong = found.flatMap((write, area) => (write === expected[area] ? [] : `area ${area}: write ${write}, not ${expected[area]}`));
  return { last, wrong, rest: createHash('sha256').update(bytes).digest('hex') };
}

function freshFile(length: number): Buffer {
  const bytes = randomFillSync(Buffer.alloc(length));
  for (let at = 0; at < length; at += pageAreaBytes) bytes.fill(0, at, at + pageBytes).write('0\n', at);
  return bytes;
}

/** What a file system holds. */
interface Use {
  readonly names: readonly string[];
  /** Files, those without a name included. */
  readonly inodes: number;
  readonly freeBytes: number;
}

export interface WriterWish {
  readonly name: string;
  readonly type: 'xfs' | 'ext4';
  /** Size of the big file in MiB, a power of two. */
  readonly mebibytes: number;
}

export class PageWriter {
  readonly engine: Engine;
  readonly #writing: Promise<unknown>;

  private constructor(
    private readonly a: Appliance,
    private readonly wish: WriterWish,
    private readonly first: { readonly use: Use; readonly rest: string },
    private readonly frozenFile: string,
  ) {
    this.#writing = this.#inside(loop((wish.mebibytes << 20) / pageAreaBytes));
    this.#writing.catch(() => undefined); // awaited by `stop`
    this.engine = lxcEngine(a);
  }

  /** Makes the container and its file system, and starts to write. */
  static async make(t: Pick<Test, 'teardown'>, a: Appliance, wish: WriterWish): Promise<PageWriter> {
    const { name, type, mebibytes } = wish;
    await a.lxc(name, { stopped: true });
    const data = join(a.lxcPath, name, 'volumes/data');
    await ownFileSystem(t, join(a.folder, `${name}.image`), data, 1 << 30, type);
    await writeFile(join(data, fileName), freshFile(mebibytes << 20));
    await run('sync', ['-f', data]); // a file takes its space when it is written back
    const first = { use: await useOf(data), rest: (await readImage(join(data, fileName))).rest };
    await startLxc(a.lxcPath, name);
    const { stdout } = await run('lxc-info', ['-P', a.lxcPath, '-n', name, '-pH']);
    return new PageWriter(a, wish, first, freezerOf(Number(stdout)));
  }

  get name(): string {
    return this.wish.name;
  }
  /** The folder of the big file. */
  get data(): string {
    return join(this.a.lxcPath, this.name, 'volumes/data');
  }
  /** As Image.rest. */
  get rest(): string {
    return this.first.rest;
  }

  #inside(script: string): Promise<unknown> {
    return run('lxc-attach', ['-P', this.a.lxcPath, '-n', this.name, '--', '/bin/sh', '-c', script]);
  }

  /** @throws Error when it could not write */
  async stop(): Promise<void> {
    await this.#inside('echo > /tmp/stop');
    await this.#writing;
  }

  get record(): string {
    return join(this.a.share, 'crash', `container-backup@${this.name}`);
  }

  /** Reads it at once, from the kernel. */
  isFrozen(): boolean {
    return !['THAWED', '0'].includes(readFileSync(this.frozenFile, 'latin1').trim());
  }

  /** One line for each trace of a clone or another file that somebody left on the file system. It waits a moment: a file without a name is
   *  freed some time after it is closed. @param apart bytes of free space that may be missing */
  async leftovers(apart: number, waitMs = 5000): Promise<string[]> {
    const { use: first } = this.first;
    let found: string[] = [];
    for (const until = Date.now() + waitMs; Date.now() < until; await sleep(50)) {
      await run('sync', ['-f', this.data]);
      if (this.wish.type === 'xfs') await run('xfs_spaceman', ['-c', 'prealloc -s', this.data]); // it keeps room beside each page that was copied
      const now = await useOf(this.data);
      found = now.names.filter((name) => !first.names.includes(name));
      if (now.inodes !== first.inodes) found.push(`${now.inodes} inodes, not ${first.inodes}`);
      if (now.freeBytes < first.freeBytes - apart) found.push(`${now.freeBytes} bytes are free, not ${first.freeBytes}`);
      if (found.length === 0) break;
    }
    return found;
  }
}

async function useOf(folder: string): Promise<Use> {
  const { files, ffree, bavail, bsize } = await statfs(folder);
  return { names: await readdir(folder), inodes: files - ffree, freeBytes: bavail * bsize };
}

/** The file of a process's cgroup that tells whether it is frozen. */
function freezerOf(pid: number): string {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'latin1');
  const first = /^\d+:freezer:(.*)$/m.exec(lines)?.[1];
  return first === undefined
    ? join('/sys/fs/cgroup', /^0::(.*)$/m.exec(lines)?.[1] ?? '', 'cgroup.freeze')
    : join('/sys/fs/cgroup/freezer', first, 'freezer.state');
}
