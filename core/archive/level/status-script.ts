/** The Perl script that looks at the files of tar's list by statx(2), which opens no file: for inode flags, and at tar's end for
 *  files that changed since a time. Names never pass through this process: with 160,000 of them that took its memory and a core's
 *  time. */
import { listPauseMs } from './name-list.js';

export interface ScriptPlan {
  /** The number of the statx system call. */
  readonly call: number;
  /** tar's list in the sandbox. */
  readonly list: string;
  /** Whether to look for flags. */
  readonly flags: boolean;
  /** Whether to look for files that changed too, and then at all files when tar has ended. Otherwise the script follows the list while
   *  tar writes it. */
  readonly looks: boolean;
  /** Epoch ms; a file with a later ctime or mtime has changed. */
  readonly since: number;
}

/** First characters of lines that do not list a flagged entry: how many lines the list has; how many files changed, and their
 *  bytes; a file that changed, after the kind and path of its database. */
export const marks = { lines: '0', moved: '1', file: '2' } as const;

/** Most files to print, of databases and of others. */
const mostFiles = 100;
/** Folders of which it is remembered whether they belong to a database server. */
const mostFolders = 1000;

/** Reads a name of tar's list, asks for its status, and prints its flags. */
const statusPart = ({ call, list, flags }: ScriptPlan): string => String.raw`
my ($here, $status) = (".", "\0" x 256);
exit 3 if syscall(${call}, -100, $here, 0x900, 0, $status) || (${Number(flags)} && (vec($status, 56, 8) & 0x70) != 0x70);
open(my $list, "<", "${list}") or exit 3;
my %letters = (a => "\a", b => "\b", f => "\f", n => "\n", r => "\r", t => "\t", v => "\013");
sub plain {
  my $name = $_[0];
  $name =~ s/\\(?:([0-7]{3})|(.))/defined $1 ? chr(oct $1) : $letters{$2} || $2/ge if index($name, "\\") >= 0;
  return $name;
}
sub status { my $name = plain($_[0]); return !syscall(${call}, -100, $name, 0x900, 0x2c1, $status) }
sub flags {
  my $flags = vec($status, 8, 8) & 0x70 or return;
  my $type = vec($status, 29, 8) & 0xf0;
  return if $type != 0x80 && $type != 0x40;
  print +($flags & 0x10 ? "i" : "") . ($flags & 0x20 ? "a" : "") . ($flags & 0x40 ? "d" : "") . " $_[0]\n";
}`;

/** Counts and keeps files that changed. A stamp in the future is no change: it was set, or made by a clock that was wrong. */
const movedPart = ({ since }: ScriptPlan): string => String.raw`
my ($after, $afterNs, $latest, $moved, $bytes) = (${Math.floor(since / 1000)}, ${(since % 1000) * 1_000_000}, 0, 0, 0);
my (@databases, @others, %servers);
sub isLater { my ($s, $ns) = @_; return ($s > $after || ($s == $after && $ns > $afterNs)) && $s <= $latest }
sub moved {
  my ($changed, $changedNs, $written, $writtenNs) = unpack("x96 q L x4 q L", $status);
  return if $changed < $after && $written < $after || (vec($status, 29, 8) & 0xf0) != 0x80;
  return if !isLater($changed, $changedNs) && !isLater($written, $writtenNs);
  $moved++;
  $bytes += unpack("x40 Q", $status);
  my ($kind, $path) = database($_[0]);
  my $found = $kind ne "" ? \@databases : \@others;
  push @$found, "$kind\t$path\t$_[0]" if @$found < ${mostFiles};
}`;

/** Tells to which database a file belongs. */
const databasePart = String.raw`
sub isSqlite {
  require Fcntl;
  sysopen(my $file, plain($_[0]), Fcntl::O_RDONLY() | Fcntl::O_NONBLOCK() | Fcntl::O_NOFOLLOW()) or return 0;
  my $head = "";
  return -f $file && sysread($file, $head, 16) && $head eq "SQLite format 3\0";
}
sub isFile { return lstat(plain($_[0])) && -f _ }
sub server {
  my ($folder) = @_;
  return $servers{$folder} if exists $servers{$folder};
  my $above = $folder =~ m{^(.*)/} && server($1);
  my $kind = isFile("$folder/PG_VERSION") ? "postgresql" : isFile("$folder/ibdata1") ? "mysql" : "";
  %servers = () if keys %servers > ${mostFolders};
  return $servers{$folder} = $above || ($kind ne "" && [$kind, $folder]);
}
sub database {
  my ($name) = @_;
  return ("sqlite", $name) if isSqlite($name);
  return ("sqlite", $1) if $name =~ /^(.+)-(?:journal|shm|wal)$/ && isSqlite($1);
  return ("redis", $name) if $name =~ m{\.aof$|/appendonlydir/[^/]+$};
  my $server = $name =~ m{^(.*)/} && server($1);
  return $server ? @$server : ("", "");
}`;

/** Follows the list and the standard input to their ends. On standard input come further names to look at for flags, each a line. Its
 *  end means that tar has ended. */
const followPart = ({ flags, looks }: ScriptPlan): string => String.raw`
sub look {
  status($_[0]) or return;
  flags($_[0]) if ${Number(flags)};
  moved($_[0]) if ${Number(looks)};
}
my ($given, $listed, $ended, $count) = ("", "", 0, 0);
for (;;) {
  my $last = $ended;
  while ((${Number(!looks)} || $last) && defined($_ = <$list>)) {
    if ($listed ne "") { $_ = $listed . $_; $listed = "" }
    if (substr($_, -1) ne "\n") { $listed = $_; next }
    chomp;
    $count++;
    look($_);
  }
  last if $last;
  seek($list, 0, 1);
  vec(my $ready = "", fileno(STDIN), 1) = 1;
  next if select($ready, undef, undef, ${looks ? 'undef' : listPauseMs / 1000}) <= 0;
  if (!sysread(STDIN, $given, 65536, length $given)) { $ended = 1; $latest = time + 1 }
  while ((my $end = index($given, "\n")) >= 0) {
    my $name = substr($given, 0, $end);
    substr($given, 0, $end + 1) = "";
    flags($name) if status($name);
  }
}
print "${marks.moved} $moved $bytes\n", map("${marks.file}$_\n", @databases, @others);
print "${marks.lines} $count\n";`;

/** 0x900: do not follow the last symlink, trigger no automount. 0x2c1: type, size, mtime and ctime. In statx's answer, byte 8 holds
 *  the flags, 29 the type, 40 the size, 56 the flags that the file system supports, 96 and 112 ctime and mtime; a wrong call number
 *  or byte order would show there. Exits with 3, before it reads anything, where statx cannot report what is asked for. */
export const statusScript = (plan: ScriptPlan): string => [statusPart(plan), movedPart(plan), databasePart, followPart(plan)].join('');
