/** The promised speeds, compared with the measured ones. */
import { type Figures, type Phase, type Spread, spreadOf } from './figures.js';

export const ours = 'container-backup';
const mib = 2 ** 20;

export interface Verdict {
  readonly what: string;
  readonly wanted: string;
  /** The figure that decides, with its spread. */
  readonly measured: string;
  /** The same, each including the sync; for speeds only. */
  readonly durable: string;
  readonly met: boolean;
}

const times = ({ median, least, most }: Spread): string => `${median.toFixed(2)} (${least.toFixed(2)}–${most.toFixed(2)})`;

interface SpeedTarget {
  readonly phase: Phase;
  readonly title: string;
  /** How many times as fast as each tool. */
  readonly atLeast: Readonly<Record<string, number>>;
}

const speeds: readonly SpeedTarget[] = [
  { phase: 'full', title: 'Full backup', atLeast: { 'tar | zstd': 0.9, restic: 2, borg: 2 } },
  { phase: 'unchanged', title: 'Unchanged run', atLeast: { restic: 2, borg: 2 } },
  { phase: 'restore', title: 'Restore', atLeast: { 'tar | zstd': 0.9, restic: 1.3, borg: 1.3 } },
];
const writtenAtMost = 1 * mib;
const memoryAtMost = 256 * mib;

function speedVerdicts(figures: Figures): Verdict[] {
  return speeds.flatMap(({ phase, title, atLeast }) =>
    Object.entries(atLeast).map(([peer, wanted]) => {
      const ended = figures.speedup(ours, peer, phase, 'seconds');
      return {
        what: `${title}: speed against ${peer}`,
        wanted: `≥ ${wanted}`,
        measured: times(ended),
        durable: times(figures.speedup(ours, peer, phase, 'durable')),
        met: ended.median >= wanted,
      };
    }),
  );
}

/** For a speed the median decides, for a limit the worst round. */
export function verdicts(figures: Figures): Verdict[] {
  const written = spreadOf(figures.of(ours, 'unchanged').map((one) => one.written));
  const { peak } = figures.largest(ours);
  return [
    ...speedVerdicts(figures),
    {
      what: 'Unchanged run: written to the target',
      wanted: '≤ 1 MiB',
      measured: `${(written.most / mib).toFixed(2)} MiB`,
      durable: '',
      met: written.most <= writtenAtMost,
    },
    {
      what: 'Memory of the service and its children',
      wanted: '≤ 256 MiB',
      measured: `${(peak / mib).toFixed(0)} MiB`,
      durable: '',
      met: peak <= memoryAtMost,
    },
  ];
}
