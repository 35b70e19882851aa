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
A file of incompressible bytes is written to a server on this machine and read back. Both sides use the same server over the same network path: Samba, which signs everything, or OpenSSH. All other settings of the servers are the defaults.

- **The delay** is the time of a round trip. This kernel has no netem, so a relay process of the benchmark forwards all bytes after half the delay, in each direction, in order, with up to 64 MiB in flight, for both sides. It adds only time: no loss, no slow start, no limit of the speed. It uses some processor time itself. At 0 ms there is no relay. At 100 ms the three protocols are measured at the same time, because each mostly waits.
- **Ours** is the target as the service opens it, with retries and the stall limit, in a separate process that is already running. Its time begins with the request to open the target. It ends when the file has its name, or has been read, and the target is closed. It includes the login and all requests to the server; with a long delay they weigh less for larger files. It gets a stream of unknown length, and drops the bytes that it reads.
- **A peer's** time is the run time of its program. It gets a finished file, unless its name shows a pipe. It reads to /dev/null; rsync cannot, so it reads to memory (/dev/shm).
- SMB is signed on both sides, and encrypted where the table says so. OpenSSH's programs choose their own cipher, ChaCha20-Poly1305, except where the table says AES-GCM. The targets over SSH prefer AES-GCM.
- ${bench.rounds} ${bench.rounds === 1 ? 'round' : 'rounds'}. Each round starts with the next side. A figure is the median, with the minimum and the maximum in brackets. A ratio compares times of one round; above 1 ours is faster. The ratio without the sync decides. **Until on disk** adds a \`sync -f\` of the server's file system to both. The targets over SSH make the server sync a file (fsync) before they report it as stored. sftp (\`put -f\`) and rsync (\`--fsync\`) do the same here; \`ssh cat\` does not.
- A file is read once beforehand, so it comes from the page cache. The file system is synced before each step. The first round compares the stored file byte by byte with the source, all rounds compare its size. Just before the rounds, other processes kept ${percent(spreadOf(bench.foreign).median)} of the machine busy (median; at most ${percent(spreadOf(bench.foreign).most)}).
- **Peak MiB** is the memory of the process and all its descendants, summed every 100 ms. Each process counts its share of shared pages. Ours is Node.js with the plugin and its child processes. Servers are not included.
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
