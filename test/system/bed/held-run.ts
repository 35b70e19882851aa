/** Suspends a run in the middle (SIGSTOP to a child), while a suite looks at it. */

import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DemoService } from '../../support/demo-client.js';
import { descendants, stateOf } from './process-tree.js';

export interface HeldRun {
  readonly pid: number;
  /** Resumes it. Does nothing when it has ended. */
  release(): void;
}

const catchLimit = 20_000;

function signal(pid: number, name: 'SIGSTOP' | 'SIGCONT'): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false; // it has ended
  }
}

/** Suspends a process. @returns false when it had ended: a zombie takes the signal, too */
async function suspend(pid: number): Promise<boolean> {
  if (!signal(pid, 'SIGSTOP')) return false;
  for (let state = stateOf(pid); state !== undefined; state = stateOf(pid)) {
    if (state === 'T') return true;
    await sleep(1);
  }
  return false;
}

/** Suspends the first child of that name as soon as it appears. Call it before the run starts: a small run may end at once.
 *  `after`: pid of a child to leave alone. */
export async function heldChild(service: DemoService, name: string, after?: HeldRun): Promise<HeldRun> {
  for (const end = Date.now() + catchLimit; Date.now() < end; await sleep(2)) {
    const child = descendants(service.pid).find((one) => one.name === name && one.pid !== after?.pid);
    if (child === undefined || !(await suspend(child.pid))) continue;
    return { pid: child.pid, release: () => void signal(child.pid, 'SIGCONT') };
  }
  throw new Error(`no ${name} was seen in ${catchLimit / 1000} s`);
}

/** Flags of a service whose ballast is read by tar, and not by blocks. */
export const ballastFlags = ['--big-file-mib', '1024'] as const;

/** Makes a large file: a backup reads and stores its 160 MiB in half a second or more. */
export async function ballast(file: string, mebibytes = 160): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await using handle = await open(file, 'w');
  const block = Buffer.alloc(1 << 20, 'ballast ');
  for (let written = 0; written < mebibytes; written++) await handle.write(block);
}
