/** The part of docs/performance.md about the times of requests with many jobs. */
import type { Machine } from '../machine.js';
import { type Spread, samples } from '../spread.js';
import { table } from '../tables.js';
import type { JobFigures } from './many-jobs.js';
import type { TickFigures } from './ticks.js';

export interface JobsReport {
  readonly date: Date;
  readonly machine: Machine;
  /** Load: the mean number of runnable processes over a minute. */
  readonly load: number;
  /** `ticks` exist for this version only, since they are no requests. */
  readonly rows: readonly { readonly version: string; readonly figures: JobFigures; readonly ticks?: TickFigures }[];
}

const ms = (value: number): string => value.toFixed(value < 10 ? 2 : 0);
const pair = ([median, slowest]: Spread): string => `${ms(median)} / ${ms(slowest)}`;

export function jobsText({ date, machine, load, rows }: JobsReport): string {
  const requests = ['POST /backup', 'GET /backup/1', 'nothing', '?limit=100', 'whole list', '?view=full'];
  const head = ['version', 'jobs', ...requests, 'tick', 'tick, one due', 'start', 'memory'];
  const lines = rows.map(({ version, figures: f, ticks }) => [
    version,
    String(f.jobs),
    pair(f.post),
    pair(f.get),
    pair(f.nothing),
    ms(f.part),
    ms(f.list),
    ms(f.full),
    ...[ticks?.idle, ticks?.one].map((spread) => (spread ? pair(spread) : '–')),
    ms(f.start),
    `${f.memory.toFixed(0)} MiB`,
  ]);
  return [
    '## Many jobs',
    `Written by \`BENCH_ONLY=jobs make bench\` on ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, on ${machine.processor}, with a load of ${load.toFixed(1)} beside it.`,
    `Milliseconds. A pair is the median and the 99th percentile of ${samples} measurements, one after the other. \`nothing\`: a bare Node server that answers at once, measured in turns with \`GET /backup/1\`. It shows the cost of the machine and the client. \`tick\`: the calendar looks for due jobs, and stores a due one as waiting, with fsync. \`start\`: from the start of the process to its first line of output.`,
    '',
    table(head, lines),
  ].join('\n');
}
