/** A tool that is measured, and the measurement of one of its steps. */
import { execFile } from 'node:child_process';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Measurement, Phase } from './figures.js';
import { foreignLoad, MemoryWatch } from './processes.js';

const run = promisify(execFile);

/** A running step. */
export interface Running {
  /** The process to watch, with its descendants, for memory. */
  readonly pid: number;
  /** @throws Error when the step failed */
  readonly ended: Promise<{ readonly own?: number }>;
}

export interface Contender {
  readonly name: string;
  readonly version: string;
  /** Its commands, for a reader who wants to repeat the measurement. */
  readonly commands: readonly string[];
  /** Destination of the round's backups. */
  readonly destination: string;
  /** Folder with the restored parts. bench.ts removes it at the end. */
  readonly restored: string;
  /** true: a restore gives the state after the changes; false: that of the full backup. */
  readonly restoresLatest: boolean;
  /** Begins a round with an empty destination. Not measured. */
  begin(round: number): Promise<void>;
  /** Prepares a step. Not measured. */
  prepare(phase: Phase): Promise<void>;
  start(phase: Phase): Promise<Running>;
  /** Processor seconds of its processes so far. */
  processor(): number;
}

/** Syncs the file system of the folder (sync -f). */
export async function syncedToDisk(folder: string): Promise<void> {
  await run('sync', ['-f', folder]);
}

/** Each file of the folder, with attributes that change when the file is written again. */
async function filesOf(folder: string): Promise<Map<string, { readonly mark: string; readonly size: number }>> {
  const found = new Map<string, { mark: string; size: number }>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const { size, mtimeMs, ino } = await lstat(path);
    found.set(path, { mark: `${ino} ${size} ${mtimeMs}`, size });
  }
  return found;
}

async function bytesSince(before: Awaited<ReturnType<typeof filesOf>>, folder: string): Promise<number> {
  let bytes = 0;
  for (const [path, { mark, size }] of await filesOf(folder)) if (before.get(path)?.mark !== mark) bytes += size;
  return bytes;
}

/** Measures a step. Syncs the file system first, so that the step does not pay for an earlier one. */
export async function measured(contender: Contender, phase: Phase, round: number): Promise<Measurement> {
  await contender.prepare(phase);
  await syncedToDisk(contender.destination);
  const before = await filesOf(contender.destination);
  const foreign = await foreignLoad();
  const spent = contender.processor();
  const began = performance.now();
  const running = await contender.start(phase);
  using memory = new MemoryWatch(running.pid);
  const { own } = await running.ended;
  const seconds = (performance.now() - began) / 1000;
  const processor = contender.processor() - spent;
  await syncedToDisk(contender.destination);
  const durable = (performance.now() - began) / 1000;
  const written = phase === 'restore' ? 0 : await bytesSince(before, contender.destination);
  const { peak, atPeak } = memory;
  const common = { contender: contender.name, phase, round, seconds, durable, written, processor, peak, atPeak, foreign };
  return { ...common, ...(own !== undefined && { own }) };
}
