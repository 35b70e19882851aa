/** Reads tar's list of packed names while tar writes it. */
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal } from '../../contract/index.js';

const atOnce = 65_536;
const lineEnd = 10;
/** Ms between looks at the list while tar runs; each look wakes up to three processes. */
export const listPauseMs = 100;

export interface NameListPlan {
  /** The file that tar writes. */
  readonly list: string;
  /** Aborted once tar has ended. */
  readonly ended: AbortSignal;
}

const waited = (plan: NameListPlan, signal: AbortSignal): Promise<void> =>
  sleep(listPauseMs, undefined, { signal: anySignal(signal, plan.ended) }).catch(() => signal.throwIfAborted());

/** Waits until the list has `bytes` bytes, or tar has ended. */
export async function listHas(bytes: number, plan: NameListPlan, signal: AbortSignal): Promise<void> {
  await using list = await open(plan.list, 'r');
  while (!plan.ended.aborted && (await list.stat()).size < bytes) await waited(plan, signal);
}

/** All complete lines in order, with their line ends. */
export async function* readLines(plan: NameListPlan, signal: AbortSignal): AsyncGenerator<Buffer> {
  await using list = await open(plan.list, 'r');
  let rest: Buffer = Buffer.alloc(0);
  for (let at = 0; ; ) {
    const last = plan.ended.aborted; // read the flag first: then nothing that tar wrote before its end is missed
    const read = await nextBytes(list, at);
    at += read.length;
    const lines = rest.length === 0 ? read : Buffer.concat([rest, read]);
    const end = lines.lastIndexOf(lineEnd) + 1;
    rest = lines.subarray(end);
    if (end > 0) yield lines.subarray(0, end);
    else if (read.length === 0 && last) return;
    if (read.length < atOnce && !last) await waited(plan, signal);
  }
}

/** The next bytes, in a buffer of just their size: most reads find few. */
async function nextBytes(list: FileHandle, at: number): Promise<Buffer> {
  const { size } = await list.stat();
  const { bytesRead, buffer } = await list.read(Buffer.allocUnsafe(Math.min(atOnce, Math.max(0, size - at))), 0);
  return buffer.subarray(0, bytesRead);
}

export function countLines(lines: Buffer): number {
  let count = 0;
  for (let at = lines.indexOf(lineEnd); at >= 0; at = lines.indexOf(lineEnd, at + 1)) count++;
  return count;
}
