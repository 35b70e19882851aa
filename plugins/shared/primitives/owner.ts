/** The thread that works on a journal or folder. A thread, because a job's worker may die while the process lives on. */
import { readFileSync, readlinkSync } from 'node:fs';

export interface Owner {
  /** "<pid>/task/<tid>" from /proc/thread-self; '' for nobody. */
  readonly task: string;
  /** Start of the thread in ticks since boot, because the kernel reuses ids. */
  readonly started: string;
}

export const nobody: Owner = Object.freeze({ task: '', started: '' });

/** Field 22 of the thread's stat (proc(5)); '' when there is no such thread. */
function startOf(task: string): string {
  try {
    const stat = readFileSync(`/proc/${task}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''; // the name in () may contain blanks
  } catch {
    return '';
  }
}

/** The calling thread. Synchronous, because asynchronous calls run in libuv's threads. */
export function ownerOfThisThread(): Owner {
  const task = readlinkSync('/proc/thread-self');
  return { task, started: startOf(task) };
}

/** Whether the thread still runs. */
export function isAlive({ task, started }: Owner): boolean {
  return /^[0-9]+\/task\/[0-9]+$/.test(task) && started !== '' && startOf(task) === started;
}
