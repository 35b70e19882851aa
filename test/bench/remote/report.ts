/** The part of docs/performance.md that tells of remote targets. */
import { spreadOf } from '../figures.js';
import type { Machine } from '../machine.js';
import { mebibytes, percent, spreadText, table } from '../tables.js';
import type { RemoteRow } from './figures.js';
import type { RemoteBench } from './remote.js';

export interface RemoteReport {
  readonly date: Date;
  readonly machine: Machine;
  /** Names and what they say of themselves. */
  readonly versions: readonly (readonly [string, string])[];
  readonly bench: RemoteBench;
}

const verdict = ({ wanted, met }: RemoteRow): string => (wanted === undefined ? '' : met ? 'met' : '**MISSED**');

const cellsOf = (row: RemoteRow): readonly string[] => [
  ...[
    row.target,
    row.direction,
    `${row.delay} ms`,
    (row.bytes / 1e6).toFixed(0),
    spreadText(row.ours, 0),
    `${spreadText(row.theirs, 0)} ${row.peer}`,
  ],
  ...[spreadText(row.ratio, 2), row.direction === 'write' ? spreadText(row.durable, 2) : ''],
  ...[row.wanted === undefined ? '' : `≥ ${row.wanted}`, verdict(row), mebibytes(row.ourPeak), mebibytes(row.theirPeak)],
];

const heads: readonly string[] = [
  ...['target', 'direction', 'delay', 'MB', 'MB/s ours', 'MB/s peer', 'ratio', 'ratio until on disk', 'wanted', ''],
  ...['peak MiB ours', 'peer'],
];

function summary(rows: readonly RemoteRow[]): string {
  const promised = rows.filter(({ wanted }) => wanted !== undefined);
  const missed = promised.filter(({ met }) => !met);
  if (missed.length === 0) return `All ${promised.length} met.`;
  const told = missed.map(
    ({ target, direction, delay, peer, ratio, wanted }) =>
      `${target}, ${direction}, ${delay} ms, against ${peer}: ${ratio.median.toFixed(2)} instead of ${wanted}`,
  );
  return `${promised.length - missed.length} of ${promised.length} met, ${missed.length} MISSED:\n\n${told.map((text) => `- ${text}`).join('\n')}`;
}

function commandsText({ cases }: RemoteBench): string {
  const lines = cases.flatMap(({ peers }) =>
    peers.flatMap(({ contender }) => [`# ${contender.name}`, ...Object.values(contender.commands).filter((one) => one !== undefined)]),
  );
  return `\`\`\`sh\n${[...new Set(lines)].join('\n')}\n\`\`\``;
}

const method = (bench: RemoteBench): string => `### How
A file of bytes that nothing can make less of is written to a server of this machine and read back from it. Both sides do so to the same server over the same way: Samba, which signs everything, and OpenSSH, each with its own settings but for that.

- **The delay** is that of a round trip. This system's kernel has no netem, so a process of the bench's own hands everything on half of it later, in each direction, in order, with up to 64 MiB under way, for both sides. Only time is added: no loss, no slow start, no limit to the speed. It takes its part of the processor. At 0 ms nothing is in between; at 100 ms the three protocols are measured at the same time, since all of them wait most of it.
- **Ours** is the target as the service opens it, under the policy that tries again and watches for stalls, in a process of its own that runs before. Its time is from the request to open it until the file has its name, or has been read, and the target is closed: login and all questions to the server are in it, which on a long way is a part that larger files have less of. It is given a stream whose length it does not know; what it reads is dropped.
- **A peer's** time is that of its program from start to end. It is given the finished file, except where its name says otherwise. It reads to /dev/null; rsync cannot, and reads to memory.
- SMB is signed on both sides, and encrypted where that is said. OpenSSH's programs choose their cipher themselves, ChaCha20-Poly1305, except where AES-GCM is said, which is what the targets over SSH prefer.
- ${bench.rounds} ${bench.rounds === 1 ? 'round' : 'rounds'}; who goes first moves on by one each round. A figure is the median, in brackets the least and the most. A ratio compares within a round, above 1 ours is faster, and the bare one decides. **Until on disk** adds a \`sync -f\` of the server's file system to both: the targets over SSH ask the server to sync what they store before they call it stored, and so do sftp (\`put -f\`) and rsync (\`--fsync\`) here; \`ssh cat\` does not.
- What is read was read once before, so all of it comes from the page cache; the file system is synced before each step. What was stored is compared byte by byte with what was given in the first round, and its size in all. Just before the rounds something else kept ${percent(spreadOf(bench.foreign).median)} of the machine busy (median; at most ${percent(spreadOf(bench.foreign).most)}).
- **Peak MiB** is the memory of the process and all its descendants, each with its part of what it shares, summed every 100 ms: for ours Node.js with the plugin and the programs that it starts. Servers are not in it.
`;

export function remoteText({ date, machine, versions, bench }: RemoteReport): string {
  const shown = versions.map(([name, text]) => `${name}: ${text}`).join('; ');
  return [
    '## Remote targets',
    `Measured on ${date.toISOString().slice(0, 16).replace('T', ' ')} UTC by \`make bench\`, or \`BENCH_ONLY=remote make bench\` for this part alone. ${machine.processor}, ${machine.cores} cores, ${machine.disk}. ${shown}.\n`,
    `${summary(bench.rows)}\n`,
    table(heads, bench.rows.map(cellsOf)),
    `\n${method(bench)}`,
    `### Commands of the peers\n${commandsText(bench)}\n`,
  ].join('\n');
}
