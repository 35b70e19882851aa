/** The part of docs/performance.md that compares the service with an earlier version of itself. */
import { type Figures, type Phase, phases } from './figures.js';
import type { Machine } from './machine.js';
import { mebibytes, spreadText, table } from './tables.js';

interface Version {
  readonly name: string;
  readonly version: string;
}

export interface VersionsReport {
  readonly date: Date;
  readonly machine: Machine;
  /** Load at the beginning: the mean number of runnable processes over a minute. */
  readonly load: number;
  readonly rounds: number;
  readonly before: Version;
  readonly now: Version;
  readonly figures: Figures;
}

const titles: Readonly<Record<Phase, string>> = {
  full: 'full backup',
  unchanged: 'second run, nothing changed',
  changed: 'run after 1 % of the small files changed',
  restore: 'restore into a new container',
};

export function versionsText({ date, machine, load, rounds, before, now, figures }: VersionsReport): string {
  const line = (phase: Phase): string[] => {
    const cells = [before, now].flatMap(({ name }) => [
      spreadText(figures.spread(name, phase, 'seconds'), 2),
      figures.spread(name, phase, 'processor').median.toFixed(2),
      mebibytes(figures.largest(name, phase).peak),
    ]);
    return [titles[phase], ...cells, spreadText(figures.speedup(now.name, before.name, phase, 'seconds'), 3)];
  };
  const head = ['before', 'now'].flatMap((name) => [`${name}: seconds`, 'processor', 'peak, MiB']);
  return [
    '## Beside an earlier version',
    `Written by \`BENCH_ONLY=versions BENCH_BEFORE=<built checkout> make bench\` on ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC, on ${machine.processor}, with a load of ${load.toFixed(1)} as it began. Before: ${before.version}. Now: ${now.version}.`,
    `Each was measured ${rounds} times, in alternating order. Seconds are the median, the minimum and the maximum. The speed compares now with before within each round; above 1 now is faster.`,
    '',
    table(['', ...head, 'speed'], phases.map(line)),
  ].join('\n');
}
