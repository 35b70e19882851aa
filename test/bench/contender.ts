/** Who is measured, and how one step of theirs is. */
import { execFile } from 'node:child_process';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Measurement, Phase } from './figures.js';
import { foreignLoad, MemoryWatch } from './processes.js';

const run = promisify(execFile);

/** A step under way. */
export interface Running {
  /** Its memory is that of this process and its descendants. */
  readonly pid: number;
  /** @throws Error when the step failed */
  readonly ended: Promise<{ readonly own?: number }>;
}

export interface Contender {
  readonly name: string;
  readonly version: string;
  /** What it does, for the reader who wants to do it again. */
  readonly commands: readonly string[];
  /** Where the round's backups go. */
  readonly destination: string;
  /** Holds the subject's parts after the round's restore. It is left to the end: see bench.ts. */
  readonly restored: string;
  /** Whether a restore gives the state after the changes, or that of the full backup. */
  readonly restoresLatest: boolean;
  /** A new round: an empty destination. Not measured. */
  begin(round: number): Promise<void>;
  /** What a step needs that isn't part of it. Not measured. */
  prepare(phase: Phase): Promise<void>;
  start(phase: Phase): Promise<Running>;
  /** Processor seconds that its processes have taken so far. */
  processor(): number;
}

/** Until all of the file system that holds the folder is on disk. */
export async function syncedToDisk(folder: string): Promise<void> {
  await run('sync', ['-f', folder]);
}

/** Each file of the folder with what changes when it is written anew. */
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

/** Begins with nothing left to be written by those before. */
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
