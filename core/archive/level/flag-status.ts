/** Inode flags by statx(2), which reads them without opening a file. No tool of Debian prints them for a list of names, but perl,
 *  which every Debian has, can make the system call: 0.2 s of processor for 100,000 small files, where lsattr takes 0.6 s. */
import { statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { PluginError } from '../../contract/index.js';
import { childExit } from '../../primitives/child.js';
import { listPauseMs } from './name-list.js';
import { type ConfinedTree, confinePerl } from './sandbox.js';

/** The number of the statx system call. */
const callNumbers: Readonly<Record<string, number>> = { x64: 332, arm64: 291 };
/** statfs(2) types of ext2 to ext4, XFS and tmpfs: statx reports all of their stored flags. Other file systems may have `C`, no
 *  copy-on-write, which statx does not report. */
const knownTypes: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x01021994]);

/** tar's list in the sandbox. */
const list = '/list';
/** Prefix of the count of lines; no flag is a digit. */
const countMark = '0';

/** Follows tar's list. Prints flags and name of each file and folder with flags, and at the end the number of lines. Further names
 *  come by standard input; its end means that tar has ended. Names never pass through this process: with 160,000 of them that took
 *  its memory and a core's time.
 *
 *  0x900: do not follow the last symlink, trigger no automount. In statx's answer, byte 8 holds the flags, 29 the type, and 56 the
 *  flags that the file system supports; a wrong call number or byte order would show there. Exits with 3, before it reads
 *  anything, where statx cannot report the flags. */
const scriptOf = (statx: number): string => String.raw`
my ($here, $status) = (".", "\0" x 256);
exit 3 if syscall(${statx}, -100, $here, 0x900, 0, $status) || (vec($status, 56, 8) & 0x70) != 0x70;
open(my $list, "<", "${list}") or exit 3;
my %letters = (a => "\a", b => "\b", f => "\f", n => "\n", r => "\r", t => "\t", v => "\013");
sub look {
  my $name = $_[0];
  $name =~ s/\\(?:([0-7]{3})|(.))/defined $1 ? chr(oct $1) : $letters{$2} || $2/ge if index($name, "\\") >= 0;
  return if syscall(${statx}, -100, $name, 0x900, 0, $status);
  my $flags = vec($status, 8, 8) & 0x70 or return;
  my $type = vec($status, 29, 8) & 0xf0;
  return if $type != 0x80 && $type != 0x40;
  print +($flags & 0x10 ? "i" : "") . ($flags & 0x20 ? "a" : "") . ($flags & 0x40 ? "d" : "") . " $_[0]\n";
}
my ($given, $listed, $ended, $count) = ("", "", 0, 0);
for (;;) {
  my $last = $ended;
  while (<$list>) {
    if ($listed ne "") { $_ = $listed . $_; $listed = "" }
    if (substr($_, -1) ne "\n") { $listed = $_; next }
    chomp;
    $count++;
    look($_);
  }
  last if $last;
  seek($list, 0, 1);
  vec(my $ready = "", fileno(STDIN), 1) = 1;
  next if select($ready, undef, undef, ${listPauseMs / 1000}) <= 0;
  $ended = 1 if !sysread(STDIN, $given, 65536, length $given);
  while ((my $end = index($given, "\n")) >= 0) { look(substr($given, 0, $end)); substr($given, 0, $end + 1) = "" }
}
print "${countMark} $count\n";`;

async function* linesOf(output: Readable): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of output.setEncoding('latin1')) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

/** Whether statx reports all flags that the tree's files may have. */
export async function hasFlagsInStatus({ kind, path }: ConfinedTree): Promise<boolean> {
  if (kind !== 'folder' || callNumbers[process.arch] === undefined) return false;
  const found = await statfs(path).catch(() => undefined); // the tree is gone: its next reader reports that
  return found !== undefined && knownTypes.has(found.type);
}

export interface StatusSearch {
  readonly tree: ConfinedTree;
  /** The file into which tar lists names. */
  readonly list: string;
  /** Further names to look at, as lines. */
  readonly known: string;
  /** Aborted once tar has ended. */
  readonly ended: AbortSignal;
  /** Called for each name with flags, in the form of tar's list. */
  add(line: string, flags: string): void;
}

/** @returns how many lines the list has; undefined when statx cannot be used: no perl, or an old kernel
 *  @throws PluginError */
export async function flagsByStatus(search: StatusSearch, signal: AbortSignal): Promise<number | undefined> {
  const tree = { ...search.tree, files: { [list]: search.list } };
  const child = confinePerl(tree, scriptOf(callNumbers[process.arch] ?? 0), ['pipe', 'pipe', 'ignore']);
  const exit = childExit(child, 'perl', signal);
  const { stdin, stdout } = child;
  if (!stdin || !stdout) throw new PluginError('failed', 'perl has no input or output');
  stdin.on('error', () => undefined); // EPIPE of a child that ended; its exit code says why
  stdin.write(search.known, 'latin1');
  const end = () => stdin.end();
  search.ended.addEventListener('abort', end, { once: true });
  if (search.ended.aborted) end();
  let count: number | undefined;
  const read = async () => {
    for await (const line of linesOf(stdout)) {
      const [said = ''] = line.split(' ', 1);
      if (said === countMark) count = Number(line.slice(2));
      else if (said !== '') search.add(line.slice(said.length + 1), said);
    }
  };
  const [told, code] = await Promise.allSettled([read(), exit]);
  search.ended.removeEventListener('abort', end);
  if (code.status === 'rejected') throw code.reason;
  if (told.status === 'rejected') throw told.reason;
  return code.value === 0 ? count : undefined;
}
