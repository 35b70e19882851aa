/** The part of docs/performance.md about a record of many runs. */
import type { Machine } from '../machine.js';
import { table } from '../tables.js';
import type { RunsCase, RunsFigures } from './many-runs.js';

export interface RunsReport {
  readonly date: Date;
  readonly machine: Machine;
  /** Load: the mean number of runnable processes over a minute. */
  readonly load: number;
  readonly rows: readonly { readonly version: string; readonly one: RunsCase; readonly figures: RunsFigures }[];
}

const seconds = (ms: number | undefined): string => (ms === undefined ? '–' : (ms / 1000).toFixed(2));

export function runsText({ date, machine, load, rows }: RunsReport): string {
  const head = ['version', 'target', 'runs', 'list', 'first byte', 'whole run', 'then: list', 'first byte', 'whole run', 'memory'];
  const lines = rows.map(({ version, one, figures: { without, indexed, memory } }) => [
    version,
    one.smb === undefined ? 'a share' : `SMB, ${one.smb} ms`,
    String(one.runs),
    ...[without.list, without.first, without.whole, indexed.list, indexed.first, indexed.whole].map(seconds),
    `${memory.toFixed(0)} MiB`,
  ]);
  return [
    '## A record of many runs',
    `Written by \`BENCH_ONLY=runs make bench\` on ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, on ${machine.processor}, with a load of ${load.toFixed(1)} beside it.`,
    "Seconds. The container has few files, so that only the record takes time. Each run of the record is a folder with a manifest and two files. `list`: GET /backup/:id/runs. `first byte`: from the request to run until the run stores its first byte. The first three columns are without an index of the record, the next three with the index that the run before wrote. `–`: no answer within 30 seconds, or no end within 200 seconds. For that record, a run on the server's own disk made the index. `memory`: the maximum of the service.",
    '',
    table(head, lines),
  ].join('\n');
}
