/** Who works on a journal or a folder: a thread, since a job's worker may die while the process lives on. */
import { readFileSync, readlinkSync } from 'node:fs';

export interface Owner {
  /** "<pid>/task/<tid>", as /proc/thread-self has it; '' for nobody. */
  readonly task: string;
  /** When that thread began, in ticks since boot: ids are used again. */
  readonly started: string;
}

export const nobody: Owner = Object.freeze({ task: '', started: '' });

/** Field 22 of the thread's stat (proc(5)); '' when there is no such thread. */
function startOf(task: string): string {
  try {
    const stat = readFileSync(`/proc/${task}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''; // the name in () may hold blanks
  } catch {
    return '';
  }
}

/** The calling thread. Synchronous: the other calls run in libuv's threads. */
export function ownerOfThisThread(): Owner {
  const task = readlinkSync('/proc/thread-self');
  return { task, started: startOf(task) };
}

/** Whether the thread still runs. */
export function isAlive({ task, started }: Owner): boolean {
  return /^[0-9]+\/task\/[0-9]+$/.test(task) && started !== '' && startOf(task) === started;
}
