/** A run that is suspended in the middle, for as long as a suite looks at it. */

import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DemoService } from '../../support/demo-client.js';
import { descendants } from './process-tree.js';

export interface HeldRun {
  readonly pid: number;
  /** Lets it go on; fine when it has ended. */
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

/** Stops the first child of that name as soon as it is there. Start it before the run: a small run is over in no time.
 *  `after`: a child that is left alone. */
export async function heldChild(service: DemoService, name: string, after?: HeldRun): Promise<HeldRun> {
  for (const end = Date.now() + catchLimit; Date.now() < end; await sleep(2)) {
    const child = descendants(service.pid).find((one) => one.name === name && one.pid !== after?.pid);
    if (child === undefined || !signal(child.pid, 'SIGSTOP')) continue;
    return { pid: child.pid, release: () => void signal(child.pid, 'SIGCONT') };
  }
  throw new Error(`no ${name} was seen in ${catchLimit / 1000} s`);
}

/** A file so large that reading and storing it takes a while: 160 MiB are half a second at the least. */
export async function ballast(file: string, mebibytes = 160): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await using handle = await open(file, 'w');
  const block = Buffer.alloc(1 << 20, 'ballast ');
  for (let written = 0; written < mebibytes; written++) await handle.write(block);
}
