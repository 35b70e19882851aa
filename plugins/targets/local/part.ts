import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';

const pattern = /^\.container-backup-(\d+)-(\d+)-[0-9a-f]{16}\.part$/;

/** Whether a name is that of a file that is still being written, or was when its writer died. */
export function isPart(name: string): boolean {
  return pattern.test(name);
}

/** A new name for a file in the making. It tells its owner: process id and start, since after a restart of the
 *  appliance the same id often is the same service again. */
export async function partName(): Promise<string> {
  return `.container-backup-${process.pid}-${(await startOf(process.pid)) ?? '0'}-${randomBytes(8).toString('hex')}.part`;
}

/** Whether the process that made the file is gone, so that nobody will ever finish it. */
export async function isStale(name: string): Promise<boolean> {
  const [, pid, start] = pattern.exec(name) ?? [];
  if (pid === undefined) return false;
  return (await startOf(Number(pid))) !== start;
}

/** Start of a process in clock ticks since boot; undefined when there is none of that id. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // the command's name stands in parentheses and may hold anything; field 22 is the 20th after it
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
