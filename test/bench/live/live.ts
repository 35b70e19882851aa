/** Measures backups of a big file in which little changes, beside the other tools, and the pause of a container on each file system. */
import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { destroyLxc, makeLxcContainer, startLxc, stopLxc } from '../../support/lxc.js';
import { type Contender, measured } from '../contender.js';
import type { Measurement, Phase } from '../figures.js';
import { peers } from '../peers.js';
import { ServiceContender } from '../service.js';
import { mebibytes } from '../tables.js';
import { BigFile, changedBytes, changesOf } from './big-file.js';

const run = promisify(execFile);
const name = 'bench-live';
const gib = 2 ** 30;
/** A base of the one file stays, whatever the levels take. */
const how = { flags: ['--big-file-mib', '16', '--new-base-ratio', '10'], features: ['compress', 'pause'] } as const;

export interface LiveRow {
  readonly what: string;
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

/** Each tool makes a full backup; then each change is backed up by all and taken back. @param size of the big file, bytes */
export async function measureChanges({ work, lxcPath, signal, say }: LiveBench, size: number): Promise<LiveRow[]> {
  await makeLxcContainer(lxcPath, name);
  try {
    await startLxc(lxcPath, name);
    await using service = await ServiceContender.open({ lxcPath, name }, work, signal, how);
    const subject = join(lxcPath, name, 'volumes');
    const others = await peers({ subject, parts: ['data'], work }, signal);
    const contenders = [service, ...others.filter((peer) => peer.name !== 'tar | zstd')]; // it stores whole files
    const file = new BigFile(join(subject, 'data/disk.img'), size, work);
    await file.fillRandom();
    const step = async (one: Contender, phase: Phase) => {
      await file.warm();
      const figure = await measured(one, phase, 1);
      const most = figure.atPeak.map((process) => `${process.name} ${mebibytes(process.bytes)}`).join(', ');
      say(`${phase}  ${one.name}  ${figure.seconds.toFixed(2)} s  ${(figure.written / 1e6).toFixed(2)} MB  MiB: ${most}`);
      return figure;
    };
    for (const one of contenders) await one.begin(1);
    for (const one of contenders) await step(one, 'full');
    const rows: LiveRow[] = [];
    for (const change of changesOf(size)) {
      say(change.what);
      await file.change(change);
      const figures: Measurement[] = [];
      for (const one of contenders) figures.push(await step(one, 'changed'));
      rows.push({ what: change.what, changed: changedBytes(change), figures, pauseMs: service.pauseMs });
      await file.takeBack(change);
    }
    return rows;
  } finally {
    await destroyLxc(lxcPath, name);
  }
}

export const fileSystems = ['ext4', 'xfs', 'btrfs'] as const;
export type FileSystem = (typeof fileSystems)[number];

export interface PauseRow {
  readonly type: FileSystem;
  readonly gib: number;
  readonly pauseMs: number;
  /** Of the whole run, s. */
  readonly seconds: number;
}

/** The pause of a run while the container writes a page of the big file ten times a second. @param sizes GiB */
export async function measurePauses(bench: LiveBench, types: readonly FileSystem[], sizes: readonly number[]): Promise<PauseRow[]> {
  const rows: PauseRow[] = [];
  for (const type of types) {
    for (const size of sizes) {
      const row = { type, gib: size, ...(await measurePause(bench, type, size * gib)) };
      rows.push(row);
      bench.say(`${type}  ${size} GiB  a pause of ${row.pauseMs} ms in a run of ${row.seconds.toFixed(2)} s`);
    }
  }
  return rows;
}

async function measurePause(bench: LiveBench, type: FileSystem, size: number): Promise<Pick<PauseRow, 'pauseMs' | 'seconds'>> {
  const { lxcPath, signal } = bench;
  const work = join(bench.work, 'pause');
  await mkdir(work);
  await makeLxcContainer(lxcPath, name);
  const data = join(lxcPath, name, 'volumes/data');
  try {
    await using _volume = await makeVolume(bench, data, type, size + gib);
    await startLxc(lxcPath, name);
    await using service = await ServiceContender.open({ lxcPath, name }, work, signal, how);
    const file = new BigFile(join(data, 'disk.img'), size, work);
    await file.fillRepeated();
    await service.begin(1);
    await measured(service, 'full', 1);
    await file.warm();
    using _writer = writePages(lxcPath, size);
    const { seconds } = await measured(service, 'changed', 1);
    return { pauseMs: service.pauseMs, seconds };
  } finally {
    await rm(work, { recursive: true });
    await destroyLxc(lxcPath, name);
  }
}

/** Writes from inside the container, so that the pause stops it. */
function writePages(lxcPath: string, size: number): Disposable {
  const write = 'echo $at | dd of=/data/disk.img bs=4096 seek=$at count=1 conv=notrunc';
  const loop = `at=0; while :; do ${write}; at=$(((at + 7919) % ${size / 4096})); usleep 100000; done`;
  const script = `/bin/busybox --install -s /bin; ${loop}`;
  const writer = execFile('lxc-attach', ['-P', lxcPath, '-n', name, '--', '/bin/sh', '-c', script], () => undefined);
  return { [Symbol.dispose]: () => void writer.kill() };
}

/** Mounts a new file system. Its device reads and writes the image past the page cache, which would otherwise hold all twice. */
async function makeVolume({ work, lxcPath }: LiveBench, folder: string, type: FileSystem, size: number): Promise<AsyncDisposable> {
  const image = join(work, 'live.img');
  await run('truncate', ['-s', String(size), image]);
  await run(`mkfs.${type}`, ['-q', type === 'ext4' ? '-F' : '-f', image]);
  const { stdout } = await run('losetup', ['--find', '--show', '--direct-io=on', image]);
  const device = stdout.trim();
  const remove = async () => {
    await run('losetup', ['--detach', device]);
    await rm(image);
  };
  try {
    await run('mount', [device, folder]);
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    async [Symbol.asyncDispose]() {
      await stopLxc(lxcPath, name); // it uses the volume
      await run('umount', [folder]);
      await remove();
    },
  };
}
