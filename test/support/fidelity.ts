import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { type BigIntStats, createReadStream, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Everything of one file that a restore must bring back. Names and link targets are bytes, as latin-1 strings. */
export interface Snapshot {
  readonly type: 'file' | 'folder' | 'symlink' | 'fifo' | 'socket' | 'character device' | 'block device';
  readonly mode: string;
  readonly owner: string;
  readonly size: bigint; // files only
  readonly mtime: bigint; // ns
  readonly rdev: bigint;
  readonly blocks: bigint; // files only
  readonly links: string; // all names of the file inside the tree
  readonly target: string;
  readonly sha256: string;
  readonly attributes: string; // xattr, ACL and capability
}

/** Every entry below the folder by its relative name. The folder itself has the name ''. */
export async function snapshotOf(folder: string): Promise<Map<string, Snapshot>> {
  const stats = new Map<string, BigIntStats>();
  walk(Buffer.from(folder), '', stats);
  const attributes = await attributesOf(folder);
  const groups = linkGroups(stats);
  const result = new Map<string, Snapshot>();
  for (const [name, stat] of [...stats].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const type = typeOf(stat);
    const path = pathOf(folder, name);
    result.set(name, {
      type,
      mode: (stat.mode & 0o7777n).toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      size: type === 'file' ? stat.size : 0n,
      mtime: stat.mtimeNs,
      rdev: type.endsWith('device') ? stat.rdev : 0n,
      blocks: type === 'file' ? stat.blocks : 0n,
      links: groups.get(inode(stat))?.sort().join(', ') ?? '',
      target: type === 'symlink' ? readlinkSync(path, { encoding: 'buffer' }).toString('latin1') : '',
      sha256: type === 'file' ? await hashOf(path, stat.size) : '',
      attributes: attributes.get(name) ?? '',
    });
  }
  return result;
}

/** One line for each difference; none when the trees are the same. */
export function differences(before: ReadonlyMap<string, Snapshot>, after: ReadonlyMap<string, Snapshot>): string[] {
  const found: string[] = [];
  for (const [name, was] of before) {
    const is = after.get(name);
    if (is) found.push(...changes(was, is).map((change) => `${JSON.stringify(name)}: ${change}`));
    else found.push(`${JSON.stringify(name)}: missing`);
  }
  for (const name of after.keys()) if (!before.has(name)) found.push(`${JSON.stringify(name)}: was not there`);
  return found;
}

const compared = ['type', 'mode', 'owner', 'size', 'mtime', 'rdev', 'links', 'target', 'sha256', 'attributes'] as const;

function changes(was: Snapshot, is: Snapshot): string[] {
  const found = compared.filter((key) => was[key] !== is[key]).map((key) => `${key} was ${was[key]}, is ${is[key]}`);
  if (was.size === is.size && !sameSparseness(was.blocks, is.blocks)) found.push(`blocks was ${was.blocks}, is ${is.blocks}`);
  return found;
}

/** Whether the sizes on disk differ by at most 1 % or 8 blocks of 512 bytes. One extent or attribute block more is no loss. */
function sameSparseness(a: bigint, b: bigint): boolean {
  const apart = a > b ? a - b : b - a;
  return apart <= 8n || apart * 100n <= (a > b ? a : b);
}

const pathOf = (folder: string, name: string): Buffer =>
  name === '' ? Buffer.from(folder) : Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, 'latin1')]);

/** Synchronous: for thousands of small files, promises take five times as much processor time. */
function walk(path: Buffer, name: string, stats: Map<string, BigIntStats>): void {
  const stat = lstatSync(path, { bigint: true });
  stats.set(name, stat);
  if (!stat.isDirectory()) return;
  for (const child of readdirSync(path, { encoding: 'buffer' })) {
    const childName = child.toString('latin1');
    walk(Buffer.concat([path, Buffer.from('/'), child]), name === '' ? childName : `${name}/${childName}`, stats);
  }
}

function typeOf(stat: BigIntStats): Snapshot['type'] {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'folder';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isFIFO()) return 'fifo';
  if (stat.isSocket()) return 'socket';
  return stat.isCharacterDevice() ? 'character device' : 'block device';
}

const inode = (stat: BigIntStats): string => `${stat.dev}:${stat.ino}`;

function linkGroups(stats: ReadonlyMap<string, BigIntStats>): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const [name, stat] of stats) {
    if (stat.nlink < 2n || stat.isDirectory()) continue;
    groups.set(inode(stat), [...(groups.get(inode(stat)) ?? []), name]);
  }
  return groups;
}

async function hashOf(path: Buffer, size: bigint): Promise<string> {
  const hash = createHash('sha256');
  if (size < 1n << 20n) return hash.update(readFileSync(path)).digest('hex');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

/** getfattr's dump of the whole tree; it writes a name's odd bytes as a backslash and three octal digits. */
async function attributesOf(folder: string): Promise<Map<string, string>> {
  const { stdout } = await run('getfattr', ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--', '.'], {
    cwd: folder,
    encoding: 'latin1',
    maxBuffer: 1 << 28,
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  });
  const found = new Map<string, string>();
  for (const block of stdout.split('\n\n')) {
    const [head = '', ...lines] = block.split('\n');
    if (!head.startsWith('# file: ')) continue;
    const name = head.slice(8).replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    found.set(name === '.' ? '' : name.replace(/^\.\//, ''), lines.filter(Boolean).sort().join(' '));
  }
  return found;
}
