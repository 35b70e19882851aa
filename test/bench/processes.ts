/** Memory and processor time of a process with all its descendants, and the load by other processes. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const everyMs = 50;
const setting = (name: string): number => Number(execFileSync('getconf', [name], { encoding: 'utf8' }));
const pageBytes = setting('PAGESIZE');
const ticks = setting('CLK_TCK');

/** '' for a file that is gone: a process may end while it is read. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** Name and numbers of /proc/<pid>/stat; the first number is the fourth field of proc(5). */
function statOf(pid: number | 'self'): { readonly name: string; readonly numbers: readonly number[] } {
  const [, name = '', rest = ''] = /^\d+ \((.*)\) \S (.*)/s.exec(textOf(`/proc/${pid}/stat`)) ?? [];
  return { name, numbers: rest.split(' ').map(Number) };
}
const field = (stat: ReturnType<typeof statOf>, number: number): number => stat.numbers[number - 4] ?? 0;

/** Each thread has a list of the children that it started. */
function childrenOf(pid: number): number[] {
  let threads: string[];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
  return threads.flatMap((thread) => textOf(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number));
}

export interface Resident {
  readonly name: string;
  readonly bytes: number;
}

/** resident (RSS): a shared page counts for each process, so a sum is never too low. proportional (PSS): each process counts its share
 *  of a shared page, which takes longer to read. */
export type Counted = 'resident' | 'proportional';

function bytesOf(pid: number, stat: ReturnType<typeof statOf>, counted: Counted): number {
  if (counted === 'resident') return field(stat, 24) * pageBytes;
  return Number(/^Pss:\s+(\d+) kB/m.exec(textOf(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}

/** Flag of a process that has not called exec since its fork: its pages are its parent's. */
const notExecuted = 0x40;

function residents(pid: number, counted: Counted, parent = ''): Resident[] {
  const stat = statOf(pid);
  if (stat.name === parent && (field(stat, 9) & notExecuted) !== 0) return []; // it is about to start another program
  const below = childrenOf(pid).flatMap((child) => residents(child, counted, stat.name));
  return [{ name: stat.name, bytes: bytesOf(pid, stat, counted) }, ...below];
}

/** Samples the memory of the tree until it is disposed. It reads synchronously, so that a sample shows one moment. A sample of resident
 *  memory takes less than a millisecond. */
export class MemoryWatch implements Disposable {
  #peak = 0;
  #atPeak: readonly Resident[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly pid: number,
    private readonly counted: Counted = 'resident',
  ) {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), counted === 'resident' ? everyMs : 2 * everyMs);
  }

  #sample(): void {
    const now = residents(this.pid, this.counted);
    const sum = now.reduce((bytes, one) => bytes + one.bytes, 0);
    if (sum <= this.#peak) return;
    this.#peak = sum;
    this.#atPeak = now;
  }

  get peak(): number {
    return this.#peak;
  }

  /** The processes of the peak, the largest first. */
  get atPeak(): readonly Resident[] {
    return this.#atPeak.toSorted((a, b) => b.bytes - a.bytes);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Processor seconds of all ended children of this process, and of their ended descendants. */
export function endedChildrenSeconds(): number {
  const stat = statOf('self');
  return (field(stat, 16) + field(stat, 17)) / ticks;
}

/** Processor seconds of a process and of its ended descendants. */
export function processorSeconds(pid: number): number {
  const stat = statOf(pid);
  return [14, 15, 16, 17].reduce((sum, number) => sum + field(stat, number), 0) / ticks;
}

/** Part of all cores, 0 to 1, that other processes use while nothing is measured. */
export async function foreignLoad(): Promise<number> {
  const look = () => {
    const [all = ''] = textOf('/proc/stat').split('\n');
    const numbers = all.split(/\s+/).slice(1, 9).map(Number);
    const idle = (numbers[3] ?? 0) + (numbers[4] ?? 0);
    return { idle, total: numbers.reduce((sum, one) => sum + one, 0) };
  };
  const before = look();
  await sleep(250);
  const after = look();
  return 1 - (after.idle - before.idle) / Math.max(1, after.total - before.total);
}
