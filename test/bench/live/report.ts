/** The part of docs/performance.md about big files in which little changes. */
import type { Machine } from '../machine.js';
import { table } from '../tables.js';
import type { LiveRow, PauseRow } from './live.js';

export interface LiveReport {
  readonly date: Date;
  readonly machine: Machine;
  readonly gib: number;
  readonly rows: readonly LiveRow[];
  readonly pauses: readonly PauseRow[];
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(2);

export function liveText({ date, machine, gib, rows, pauses }: LiveReport): string {
  const head = ['changed', 'tool', 's', 'MB stored', 'MB of changed blocks', 'processor s', 'peak MiB', 'pause ms'];
  const lines = rows.flatMap(({ change, changed, figures, pauseMs }) =>
    figures.map(({ contender, seconds, written, processor, peak, own }) => [
      change,
      contender,
      seconds.toFixed(2),
      mb(written),
      mb(changed),
      processor.toFixed(1),
      (peak / 2 ** 20).toFixed(0),
      own === undefined ? '' : String(pauseMs),
    ]),
  );
  return [
    '## A big file in which little changes',
    `Written by \`BENCH_ONLY=live make bench\` on ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, on ${machine.processor}. The file has ${gib} GiB of random bytes and lies on ext4 in the page cache. Each tool has made a full backup; then the file changes, and each backs it up again. The service pauses the container.`,
    '',
    table(head, lines),
    '',
    'The pause of a run after one page has changed, by the file system of the volume (a loop device):',
    '',
    table(
      ['file system', 'GiB of big files', 'pause, ms'],
      pauses.map(({ fileSystem, gib: size, pauseMs }) => [fileSystem, String(size), String(pauseMs)]),
    ),
  ].join('\n');
}
