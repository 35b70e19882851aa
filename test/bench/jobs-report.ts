/** The part of docs/performance.md that tells what requests cost as jobs become more. */
import type { Machine } from './machine.js';
import type { JobFigures } from './many-jobs.js';
import { table } from './tables.js';

export interface JobsReport {
  readonly date: Date;
  readonly machine: Machine;
  /** Processes that waited for a processor, a minute's mean. */
  readonly load: number;
  readonly rows: readonly { readonly version: string; readonly figures: JobFigures }[];
}

const ms = (value: number): string => value.toFixed(value < 10 ? 2 : 0);
const pair = ([median, slowest]: readonly [number, number]): string => `${ms(median)} / ${ms(slowest)}`;

export function jobsText({ date, machine, load, rows }: JobsReport): string {
  const head = ['version', 'jobs', 'POST /backup', 'GET /backup/1', '?limit=100', 'whole list', '?view=full', 'start', 'memory'];
  const lines = rows.map(({ version, figures: f }) => [
    version,
    String(f.jobs),
    pair(f.post),
    pair(f.get),
    ms(f.part),
    ms(f.list),
    ms(f.full),
    ms(f.start),
    `${f.memory.toFixed(0)} MiB`,
  ]);
  return [
    '## Many jobs',
    `Written by \`BENCH_ONLY=jobs make bench\` on ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, on ${machine.processor}, with a load of ${load.toFixed(1)} beside it.`,
    'Milliseconds; pairs are the median and the 99th percentile of 300 requests, one after the other. `start`: from the start of the process to its first line.',
    '',
    table(head, lines),
  ].join('\n');
}
