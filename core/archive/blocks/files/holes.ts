/** Holes of a sparse file: ranges that take no room on the disk. Node can neither find nor make them; perl, which every Debian has, can
 *  make the system calls on a descriptor that it inherits. */
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PluginError } from '../../../contract/index.js';
import { archiveChild, childExit } from '../../../primitives/child.js';

/** Bytes from `start` to `end`, without the last. */
export interface Hole {
  readonly start: number;
  readonly end: number;
}

/** A file with more holes is taken as one without. */
const mostHoles = 100_000;
/** The number of the fallocate system call. */
const callNumbers: Readonly<Record<string, number>> = { x64: 285, arm64: 47 };

/** lseek(2) with SEEK_HOLE (4) and SEEK_DATA (3), from one to the other. There is no data behind the last hole. */
const find = String.raw`
open(my $file, "<&=", 3) or exit 3;
my $size = -s $file;
for (my ($at, $count) = (0, 0); $at < $size && $count <= ${mostHoles}; $count++) {
  my $start = sysseek($file, $at, 4) // exit 3;
  last if $start >= $size;
  my $end = sysseek($file, $start, 3) // $size;
  print $start + 0, " ", $end + 0, "\n";
  $at = $end;
}`;

/** fallocate(2) with FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE (3). */
const punch = (call: number) => `
open(my $file, "+<&=", 3) or exit 3;
while (<STDIN>) {
  my ($start, $end) = split;
  exit 4 if syscall(${call}, 3, 3, $start + 0, $end - $start);
}`;

/** @returns undefined when the file system does not tell, or when there are too many */
export async function findHoles(file: FileHandle, signal: AbortSignal): Promise<Hole[] | undefined> {
  const child = archiveChild('perl', ['-e', find], ['ignore', 'pipe', 'ignore', file.fd]);
  const exit = childExit(child, 'perl', signal);
  let said = '';
  if (child.stdout) for await (const text of child.stdout.setEncoding('latin1')) said += text;
  if ((await exit) !== 0) return undefined;
  const holes = parseHoles(said);
  return holes.length > mostHoles ? undefined : holes;
}

export const holesText = (holes: readonly Hole[]): string => holes.map(({ start, end }) => `${start} ${end}\n`).join('');

/** @throws PluginError damaged */
export function parseHoles(text: string): Hole[] {
  return text.split('\n').flatMap((line) => {
    if (line === '') return [];
    const [, start, end] = /^(\d{1,15}) (\d{1,15})$/.exec(line) ?? [];
    if (start === undefined || Number(end) <= Number(start))
      throw new PluginError('damaged', 'a list of holes has another form; choose another run');
    return [{ start: Number(start), end: Number(end) }];
  });
}

/** What is in the holes of `all` and not in those of `less`. Both are sorted. */
export function subtractHoles(all: readonly Hole[], less: readonly Hole[]): Hole[] {
  const left: Hole[] = [];
  let at = 0;
  for (const hole of all) {
    let { start } = hole;
    while ((less[at]?.end ?? Number.POSITIVE_INFINITY) <= start) at++;
    for (let n = at; start < hole.end; n++) {
      const next = less[n];
      const end = Math.min(hole.end, next?.start ?? Number.POSITIVE_INFINITY);
      if (end > start) left.push({ start, end });
      start = Math.max(start, next?.end ?? Number.POSITIVE_INFINITY);
    }
  }
  return left;
}

/** Gives the ranges back to the file system. On one that cannot, they stay as zeros. */
export async function punchHoles(file: FileHandle, holes: readonly Hole[], signal: AbortSignal): Promise<void> {
  const call = callNumbers[process.arch];
  if (call === undefined) return;
  const child = archiveChild('perl', ['-e', punch(call)], ['pipe', 'ignore', 'ignore', file.fd]);
  const exit = childExit(child, 'perl', signal);
  if (child.stdin) await pipeline(Readable.from([holesText(holes)]), child.stdin).catch(() => undefined); // EPIPE: the file system cannot
  await exit;
}
