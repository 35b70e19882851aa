/** The parts of docs/performance.md about big files in which little changes. */
import type { Machine } from '../machine.js';
import { mebibytes, table } from '../tables.js';
import type { LiveRow, PauseRow } from './live.js';

export interface LiveReport<Row> {
  readonly date: Date;
  readonly machine: Machine;
  readonly rows: readonly Row[];
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(2);
const dayAndTime = (date: Date): string => `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;

/** Seconds as a part of those of the fastest other tool. */
function beside({ figures }: LiveRow): string {
  const [own, ...others] = figures.map(({ seconds }) => seconds);
  return ((own ?? Number.NaN) / Math.min(...others)).toFixed(2);
}

/** The service is the first of the figures. */
function linesOf(row: LiveRow): string[][] {
  return row.figures.map(({ contender, seconds, durable, written, processor, peak }, at) => [
    ...(at === 0 ? [row.what, mb(row.changed)] : ['', '']),
    ...[contender, seconds.toFixed(2), durable.toFixed(2), at === 0 ? beside(row) : '', mb(written)],
    ...[processor.toFixed(1), mebibytes(peak), at === 0 ? String(row.pauseMs) : ''],
  ]);
}

/** @param gib size of the file */
export function liveText({ date, machine, rows }: LiveReport<LiveRow>, gib: number): string {
  const head = [
    'changed',
    'MB of blocks',
    'tool',
    's',
    's until on disk',
    'of the faster',
    'MB stored',
    'processor s',
    'peak MiB',
    'pause ms',
  ];
  return [
    '## A big file in which little changes',
    `Written by \`BENCH_ONLY=live BENCH_GIB=${gib} make bench\` on ${dayAndTime(date)}, on ${machine.processor} with ${machine.cores} cores. The file has ${gib} GiB of random bytes. It lies on ${machine.disk.split(',')[0]} and is in the page cache before each step. Each tool has made a full backup; then a part of the file changes, each backs it up again, and the change is taken back. The service compresses, and pauses the container, which writes nothing meanwhile. \`MB of blocks\`: blocks of 128 KiB that differ. \`of the faster\`: the seconds of the service, as a part of those of the faster other tool.`,
    '',
    table(head, rows.flatMap(linesOf)),
  ].join('\n');
}

export function pausesText({ date, machine, rows }: LiveReport<PauseRow>): string {
  const lines = rows.map(({ type, gib, pauseMs, seconds }) => [
    type,
    String(gib),
    String(pauseMs),
    (pauseMs / gib).toFixed(0),
    seconds.toFixed(2),
  ]);
  return [
    '## The pause for a big file',
    `Written by \`BENCH_ONLY=pauses make bench\` on ${dayAndTime(date)}, on ${machine.processor} with ${machine.cores} cores. The file is in the page cache. While the run reads it, the container writes a page of it ten times a second, until it is paused. The volume is a loop device with the file system.`,
    '',
    table(['file system', 'GiB of the file', 'pause, ms', 'ms for a GiB', 'whole run, s'], lines),
  ].join('\n');
}
