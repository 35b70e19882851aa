/** Measures backups of a big file in which little changes, beside the other tools, and the pause of a container on each file system. */
import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { notSoon, part } from '../../support/api-client.js';
import { DemoService } from '../../support/demo-client.js';
import { destroyLxc, makeLxcContainer, startLxc } from '../../support/lxc.js';
import { type Contender, measured, type Running } from '../contender.js';
import type { Measurement, Phase } from '../figures.js';
import { peers } from '../peers.js';
import { processorSeconds } from '../processes.js';

const run = promisify(execFile);
const name = 'live';
const gib = 2 ** 30;
const blockBytes = 128 << 10;
/** Times are proven when they are two seconds older than the run. */
const settleMs = 3500;

/** Writes random bytes to a file: `count` ranges of `length` bytes, `stride` bytes apart from `start` on. */
interface Change {
  readonly what: string;
  readonly start: number;
  readonly stride: number;
  readonly count: number;
  readonly length: number;
}

/** @param size of the file, bytes */
export const changesOf = (size: number): readonly Change[] => [
  { what: '1 page', start: size / 2, stride: 0, count: 1, length: 4096 },
  { what: '1 % in one place', start: size / 4, stride: 0, count: 1, length: Math.round(size / 100 / blockBytes) * blockBytes },
  { what: '1 % of the blocks, scattered', start: 0, stride: 100 * blockBytes, count: Math.floor(size / 100 / blockBytes), length: 4096 },
  { what: '64 MiB appended', start: size, stride: 0, count: 1, length: 64 << 20 },
];

/** Bytes of the blocks that differ. */
export const changedBytes = ({ count, length }: Change): number => count * Math.ceil(length / blockBytes) * blockBytes;

const writer = `import os, sys
path, start, stride, count, length = sys.argv[1], *map(int, sys.argv[2:])
with open(path, 'r+b') as file:
    for n in range(count):
        file.seek(start + n * stride)
        for _ in range(max(1, length >> 20)): file.write(os.urandom(min(length, 1 << 20)))`;

async function apply(file: string, { start, stride, count, length }: Change): Promise<void> {
  await run('python3', ['-c', writer, file, ...[start, stride, count, length].map(String)]);
  await sleep(settleMs);
}

/** Random bytes, so that no tool gains by compression. */
async function makeFile(file: string, size: number): Promise<void> {
  const key = ['-K', '00'.repeat(16), '-iv', '00'.repeat(16)].join(' ');
  await run('sh', ['-c', `head -c ${size} /dev/zero | openssl enc -aes-128-ctr -nosalt ${key} > "$0"`, file]);
  await sleep(settleMs);
}

/** The service with one container. */
class LiveService implements Contender, AsyncDisposable {
  readonly name = 'container-backup';
  readonly version = '';
  readonly commands = [];
  readonly restoresLatest = true;
  readonly restored = '';
  pauseMs = 0;
  #job = 0;
  #round = 0;

  private constructor(
    private readonly service: DemoService,
    readonly destination: string,
  ) {}

  static async open(work: string, lxcPath: string): Promise<LiveService> {
    const share = join(work, 'share-live');
    await mkdir(share, { recursive: true });
    const flags = ['--new-base-ratio', '10'];
    return new LiveService(await DemoService.start({ stateFolder: join(work, 'state-live'), shares: { bench: share }, lxcPath, flags }), share);
  }

  async begin(round: number): Promise<void> {
    await rm(join(this.destination, `round-${this.#round}`), { recursive: true, force: true });
    this.#round = round;
    const dest = { target: 'local', path: `/bench/round-${round}` };
    const job = { job_name: `round-${round}`, container_id: name, type: 'lxc', dest, at: notSoon(), disable: true };
    this.#job = await this.service.create('backup', { ...job, features: ['compress', 'pause'] });
  }

  async prepare(): Promise<void> {}

  async start(): Promise<Running> {
    const ended = this.service.backUp(this.#job).then((state) => {
      this.pauseMs = Number(part(state, 'pause_ms'));
      return { own: Number(part(state, 'duration')) / 1000 };
    });
    ended.catch(() => undefined); // the measurement awaits it later
    return { pid: this.service.child.pid ?? 0, ended };
  }

  processor(): number {
    return processorSeconds(this.service.child.pid ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
  }
}

export interface LiveRow {
  readonly change: string;
  readonly changed: number;
  readonly figures: readonly Measurement[];
  readonly pauseMs: number;
}

export interface LiveBench {
  readonly work: string;
  readonly lxcPath: string;
  readonly signal: AbortSignal;
  say(text: string): void;
}

/** @param size of the big file, bytes */
export async function measureChanges({ work, lxcPath, signal, say }: LiveBench, size: number): Promise<LiveRow[]> {
  await makeLxcContainer(lxcPath, name);
  try {
    await startLxc(lxcPath, name);
    await using service = await LiveService.open(work, lxcPath);
    const subject = join(lxcPath, name, 'volumes');
    const others = (await peers({ subject, parts: ['data'], work }, signal)).filter((peer) => peer.name !== 'tar | zstd'); // it stores whole files
    const file = join(subject, 'data/disk.img');
    const rows: LiveRow[] = [];
    for (const [round, change] of changesOf(size).entries()) {
      await makeFile(file, size);
      for (const one of [service, ...others]) await one.begin(round);
      for (const one of [service, ...others]) await step(one, 'full', round, say);
      await apply(file, change);
      const figures: Measurement[] = [];
      for (const one of [service, ...others]) figures.push(await step(one, 'changed', round, say));
      rows.push({ change: change.what, changed: changedBytes(change), figures, pauseMs: service.pauseMs });
    }
    return rows;
  } finally {
    await destroyLxc(lxcPath, name);
  }
}

async function step(contender: Contender, phase: Phase, round: number, say: LiveBench['say']): Promise<Measurement> {
  const one = await measured(contender, phase, round);
  say(`${round} ${phase} ${contender.name}: ${one.seconds.toFixed(2)} s, ${(one.written / 1e6).toFixed(2)} MB, ${(one.peak / 2 ** 20).toFixed(0)} MiB`);
  return one;
}

export interface PauseRow {
  readonly fileSystem: string;
  readonly gib: number;
  readonly pauseMs: number;
}

/** The pause of a run after one page has changed. */
export async function measurePauses({ work, lxcPath, say }: LiveBench, sizes: readonly number[]): Promise<PauseRow[]> {
  const rows: PauseRow[] = [];
  for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
    for (const size of sizes) {
      const pauseMs = await measurePause({ work, lxcPath }, type, size * gib);
      rows.push({ fileSystem: type, gib: size, pauseMs });
      say(`${type} ${size} GiB: a pause of ${pauseMs} ms`);
    }
  }
  return rows;
}

async function measurePause({ work, lxcPath }: Pick<LiveBench, 'work' | 'lxcPath'>, type: string, size: number): Promise<number> {
  await makeLxcContainer(lxcPath, name);
  const data = join(lxcPath, name, 'volumes/data');
  const image = join(work, 'live.img');
  await run('truncate', ['-s', String(size + 2 * gib), image]);
  await run(`mkfs.${type}`, [...(type === 'ext4' ? ['-q', '-F'] : ['-q', '-f']), image]);
  await run('mount', ['-o', 'loop', image, data]);
  try {
    await startLxc(lxcPath, name);
    await using service = await LiveService.open(work, lxcPath);
    await service.begin(0);
    await makeFile(join(data, 'disk.img'), size);
    await (await service.start()).ended;
    await apply(join(data, 'disk.img'), { what: '', start: size / 2, stride: 0, count: 1, length: 4096 });
    await run('cat', [join(data, 'disk.img')], { maxBuffer: 1 }).catch(() => undefined);
    await (await service.start()).ended;
    return service.pauseMs;
  } finally {
    await destroyLxc(lxcPath, name);
    await run('umount', ['-l', data]).catch(() => undefined); // its folder went with the container
    await rm(image, { force: true });
    await rm(join(work, 'share-live'), { recursive: true, force: true });
  }
}
