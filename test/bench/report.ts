/** The part of docs/performance.md that compares the service with other tools. */
import { type Figures, type Phase, phases, type Spread, spreadOf } from './figures.js';
import type { Machine } from './machine.js';
import { filesPerFolder, folderCount } from './small-files.js';
import type { Contents } from './subject.js';
import { mebibytes, percent, spreadText, table } from './tables.js';
import { ours, type Verdict, verdicts } from './targets.js';

export interface Report {
  readonly date: Date;
  readonly machine: Machine;
  readonly rounds: number;
  readonly root: Contents;
  readonly data: Contents;
  /** Number of small files that a round changed. */
  readonly changed: number;
  readonly contenders: readonly { readonly name: string; readonly version: string; readonly commands: readonly string[] }[];
  readonly figures: Figures;
}

const titles: Readonly<Record<Phase, string>> = {
  full: 'Full backup',
  unchanged: 'Second run, nothing changed',
  changed: 'Run after 1 % of the small files changed',
  restore: 'Restore into a new container or folder',
};

const seconds = (spread: Spread): string => spreadText(spread, 2);
const megabytes = (bytes: number): string => (bytes < 1e5 ? (bytes / 1e6).toPrecision(1) : (bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 0));

function phaseTable(report: Report, phase: Phase): string {
  const { figures, root, data, contenders } = report;
  const rows = contenders.map(({ name }) => {
    const time = figures.spread(name, phase, 'seconds');
    const rate = phase === 'full' || phase === 'restore' ? ((root.bytes + data.bytes) / 1e6 / time.median).toFixed(0) : '';
    const written = phase === 'restore' ? '' : megabytes(figures.spread(name, phase, 'written').median);
    const processor = figures.spread(name, phase, 'processor').median.toFixed(1);
    const peak = mebibytes(figures.largest(name, phase).peak);
    return [name, seconds(time), seconds(figures.spread(name, phase, 'durable')), rate, processor, written, peak];
  });
  return table(['', 's', 's until on disk', 'MB/s', 'processor s', 'MB written', 'peak MiB'], rows);
}

/** For the service only: the duration that the job reports, and the time that a client waits. */
function ownTimes({ figures }: Report): string {
  const rows = phases.map((phase) => [
    titles[phase],
    seconds(spreadOf(figures.of(ours, phase).map((one) => one.own ?? Number.NaN))),
    seconds(figures.spread(ours, phase, 'seconds')),
  ]);
  return table(['', 'job’s own duration, s', 'from request to end, s'], rows);
}

/** The processes of the service at its memory peak. */
function peakText({ figures }: Report): string {
  const { atPeak, peak, phase } = figures.largest(ours);
  const names = new Map<string, number>();
  for (const { name, bytes } of atPeak) names.set(name, (names.get(name) ?? 0) + bytes);
  const parts = [...names].map(([name, bytes]) => `${name} ${mebibytes(bytes)}`);
  return `The service’s peak of ${mebibytes(peak)} MiB was in: ${titles[phase].toLowerCase()}. It was made of ${parts.join(', ')}.`;
}

const verdictTable = (all: readonly Verdict[]): string =>
  table(
    ['', 'wanted', 'measured', 'until on disk', ''],
    all.map(({ what, wanted, measured, durable, met }) => [what, wanted, measured, durable, met ? 'met' : '**missed**']),
  );

function machineTable({ machine, contenders }: Report): string {
  return table(
    ['', ''],
    [
      ['processor', `${machine.processor}, ${machine.cores} cores`],
      ['memory', `${machine.memoryGiB.toFixed(1)} GiB`],
      ['system', `${machine.system}, Linux ${machine.kernel}`],
      ['file system', machine.disk],
      ...contenders.map(({ name, version }) => [name, version]),
    ],
  );
}

const method = ({ rounds, root, data, changed, figures }: Report): string => `## What was measured
One running LXC container: a Debian root file system of ${root.entries} entries and ${megabytes(root.bytes)} MB, and a volume of ${folderCount * filesPerFolder} files of 1 to 4 KiB in ${folderCount} folders, ${megabytes(data.bytes)} MB, half of them compressible. Between the second run and the third ${changed} of these files got new contents of another length.

- ${rounds} ${rounds === 1 ? 'round' : 'rounds'}. In each round every tool makes its first backup, then every tool its second, and so on. Each round starts with the next tool. A figure is the median, with the minimum and the maximum in brackets. A ratio compares times of one round; above 1 ours is faster.
- All files are read once beforehand, so they come from the page cache. The file system is synced before each step, so that no tool pays for an earlier one. All destinations and restored folders are on this one file system. Just before the steps, other processes kept ${percent(figures.foreign().median)} of the machine busy (median; at most ${percent(figures.foreign().most)}): the closer to 0, the more reliable the figures.
- Times are wall times from the start of the command, or from the API request, to its end. **Until on disk** adds a \`sync -f\` of the file system afterwards. container-backup syncs each archive and its folder before it reports them as stored, and restored files before the swap, so little is left to sync. restic and borg sync their repositories in a backup, and nothing in a restore. \`tar | zstd\` syncs nothing. Times without the sync therefore favour \`tar | zstd\`, and in a restore all other tools.
- container-backup also hashes the stored bytes with SHA-256, reads its manifest back, and checks every hash in a restore. \`tar | zstd\` does none of this. restic encrypts; borg runs without encryption.
- \`tar | zstd\` restores only the full archive. The others restore the state after the changes; for container-backup that is an archive and a level. The second and third runs of tar are levels by \`--listed-incremental\`. Their snapshot file is made beforehand and not timed.
- **MB written** counts the bytes of new and replaced files at the destination. MB/s counts bytes of files that were read or restored, not of archives.
- **Processor s** is the user and system time of all processes of the tool. It is more reliable than the clock when other processes run.
- **Peak MiB** is the resident memory of the process and all its descendants, summed every 50 ms. For container-backup that is the whole service. Shared pages count once per process, so the sum is never too low.
- After each restore, the small files must have the names, types, modes, owners, sizes and times of the original, and the root must have the same number of entries.
`;

export function reportText(report: Report): string {
  const all = verdicts(report.figures);
  const missed = all.filter(({ met }) => !met).length;
  const commands = report.contenders.flatMap(({ name, commands }) => [`# ${name}`, ...commands]);
  return [
    '# Performance',
    `Written by \`make bench\` on ${report.date.toISOString().slice(0, 16).replace('T', ' ')} UTC. Do not edit it by hand; run \`make bench\` again.\n`,
    machineTable(report),
    `\n## Targets\n${missed === 0 ? `All ${all.length} met.` : `${all.length - missed} of ${all.length} met, ${missed} missed.`} A speed is the other tool's time divided by ours. The ratio without the sync decides.\n`,
    verdictTable(all),
    ...phases.map((phase) => `\n## ${titles[phase]}\n${phaseTable(report, phase)}`),
    `\n${peakText(report)}\n`,
    `## The job’s own time\n${ownTimes(report)}\n`,
    method(report),
    `## Commands\nIn the container’s folder, with \`PARTS="rootfs volumes/data"\`:\n\`\`\`sh\n${commands.join('\n')}\n\`\`\`\n`,
  ].join('\n');
}
