/** The descendants of a process, from /proc. It reads synchronously, so that the result shows one moment. */
import { readdirSync, readFileSync } from 'node:fs';

export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** The first 15 characters of the command's name. */
  readonly name: string;
}

/** '' for a file that is gone: a process may end while it is read. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** A process and its state, a letter of proc(5); undefined when it is gone or a zombie. */
function processOf(pid: number): (Process & { readonly state: string }) | undefined {
  // the name stands in parentheses and may hold anything, a parenthesis too
  const [, name, state = '', parent] = /^\d+ \((.*)\) (\S) (\d+) /s.exec(textOf(`/proc/${pid}/stat`)) ?? [];
  return name === undefined || state === 'Z' ? undefined : { pid, parent: Number(parent), name, state };
}

const allProcesses = (): Process[] =>
  readdirSync('/proc').flatMap((entry) => (/^\d+$/.test(entry) ? (processOf(Number(entry)) ?? []) : []));

/** The state of a process, a letter of proc(5); undefined when it is gone or a zombie. */
export const stateOf = (pid: number): string | undefined => processOf(pid)?.state;

/** The arguments of a process; none when it is gone. */
export const argumentsOf = (pid: number): string[] => textOf(`/proc/${pid}/cmdline`).split('\0').slice(0, -1);

/** Children, their children and so on; not the process itself. A daemon that left its parent is no descendant. */
export function descendants(pid: number): Process[] {
  const all = allProcesses();
  const below = (one: number): Process[] => all.filter(({ parent }) => parent === one).flatMap((child) => [child, ...below(child.pid)]);
  return below(pid);
}

/** Those that still run, wherever their parent is. */
export function survivors(some: readonly Process[]): Process[] {
  const pids = new Set(some.map(({ pid }) => pid));
  return allProcesses().filter(({ pid }) => pids.has(pid));
}

/** Proportional set size in bytes: private pages, and of each shared page this process's part. Page cache is not in it. */
export function proportionalBytes(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(textOf(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}
