/** Shifts the ids of restored files for a container whose idmap differs from that of the backup: owners, ids in ACLs and the root
 *  id of file capabilities. */
import { once } from 'node:events';
import type { Stats } from 'node:fs';
import { chmod, lchown, lstat, readdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import { PluginError } from '../../../core/contract/index.js';
import { startChild } from '../../shared/primitives/child.js';
import { isForbidden, lockPath, unlockPath } from '../../shared/swap/index.js';
import { settings } from './config.js';

/** A line of lxc.idmap: it maps `count` ids from `inside` on to ids from `host` on. */
interface Range {
  readonly kinds: 'u' | 'g' | 'b';
  readonly inside: number;
  readonly host: number;
  readonly count: number;
}

/** Maps an id of the host to its new one. */
export interface IdShift {
  uid(id: number): number;
  gid(id: number): number;
}

const pattern = /^([ugb])\s+(\d+)\s+(\d+)\s+(\d+)$/;
const everything: readonly Range[] = [{ kinds: 'b', inside: 0, host: 0, count: 2 ** 32 }];

/** @throws PluginError invalid */
function rangesOf(lines: readonly string[]): readonly Range[] {
  if (lines.length === 0) return everything; // not idmapped
  return lines.map((line) => {
    const [, kinds, inside, host, count] = pattern.exec(line.trim()) ?? [];
    if (kinds !== 'u' && kinds !== 'g' && kinds !== 'b')
      throw new PluginError('invalid', `remap.ids: "${line}" is no line of lxc.idmap; write it like: u 0 100000 65536`);
    return { kinds, inside: Number(inside), host: Number(host), count: Number(count) };
  });
}

function shiftId(kind: 'u' | 'g', id: number, from: readonly Range[], to: readonly Range[]): number {
  const fits = ({ kinds }: Range) => kinds === 'b' || kinds === kind;
  const old = from.find((range) => fits(range) && id >= range.host && id < range.host + range.count);
  if (old === undefined) return id; // not mapped into the container: keep the host id
  const inside = id - old.host + old.inside;
  const fresh = to.find((range) => fits(range) && inside >= range.inside && inside < range.inside + range.count);
  if (fresh) return inside - fresh.inside + fresh.host;
  throw new PluginError('invalid', `remap.ids does not map ${kind === 'u' ? 'user' : 'group'} ${inside} of the container`);
}

/** The shift from a configuration's idmap to the lines of a remap. @throws PluginError invalid */
export function idShift(text: string, lines: readonly string[]): IdShift {
  const from = rangesOf(settings(text).flatMap(({ key, value }) => (key === 'lxc.idmap' ? [value] : [])));
  const to = rangesOf(lines);
  return { uid: (id) => shiftId('u', id, from, to), gid: (id) => shiftId('g', id, from, to) };
}

/** The configuration with these lines of lxc.idmap in place of its own. */
export function withIds(text: string, lines: readonly string[]): string {
  const old = new Set(settings(text).flatMap(({ key, line }) => (key === 'lxc.idmap' ? [line] : [])));
  const kept = text.split('\n').filter((_, line) => !old.has(line));
  while (kept.at(-1) === '') kept.pop();
  return `${[...kept, ...lines.map((line) => `lxc.idmap = ${line.trim()}`)].join('\n')}\n`;
}

/** A folder and everything below it, names as bytes. Symlinks are not followed. */
async function* entriesOf(path: Buffer): AsyncGenerator<{ readonly path: Buffer; readonly stats: Stats }> {
  const stats = await lstat(path);
  yield { path, stats };
  if (!stats.isDirectory()) return;
  for (const name of await readdir(path, { encoding: 'buffer' })) yield* entriesOf(Buffer.concat([path, Buffer.from('/'), name]));
}

/** Flags of immutable or append-only files whose flags were taken off, by path in latin-1. */
type Unlocked = Map<string, string>;

/** @param unlocked receives the flags that it takes off */
async function shiftOwners(folder: string, shift: IdShift, signal: AbortSignal, unlocked: Unlocked): Promise<void> {
  const linked = new Set<number>();
  for await (const { path, stats } of entriesOf(Buffer.from(folder))) {
    if (signal.aborted) throw new PluginError('aborted', 'the restore was cancelled');
    const { uid, gid, mode, nlink, ino } = stats;
    if (linked.has(ino)) continue;
    if (!stats.isDirectory() && nlink > 1) linked.add(ino);
    const give = () => lchown(path, shift.uid(uid), shift.gid(gid));
    await give().catch(async (error: unknown) => {
      const flags = isForbidden(error) ? await unlockPath(path) : '';
      if (flags === '') throw error;
      unlocked.set(path.toString('latin1'), flags);
      return give();
    });
    if ((mode & 0o6000) !== 0) await chmod(path, mode & 0o7777); // chown clears setuid and setgid
  }
}

/** Reads attributes of a tree with one tool, changes them line by line, and returns a function that sets them with another
 *  tool. */
async function carryId(
  read: readonly string[],
  change: (line: string) => string | undefined,
  write: readonly string[],
): Promise<() => Promise<void>> {
  const lines: string[] = [];
  const reader = startChild(read[0] ?? '', read.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  await describeIds(reader, async () => {
    if (!reader.stdout) return;
    for await (const line of createInterface({ input: reader.stdout.setEncoding('latin1') })) {
      const changed = change(line);
      if (changed !== undefined) lines.push(`${changed}\n`);
    }
  });
  return async () => {
    if (lines.length === 0) return; // the tool prints nothing for files without the attribute
    const writer = startChild(write[0] ?? '', write.slice(1), { stdio: ['pipe', 'ignore', 'pipe'] });
    await describeIds(writer, async () => {
      if (!writer.stdin) return;
      writer.stdin.end(Buffer.from(lines.join(''), 'latin1'));
      await finished(writer.stdin);
    });
  };
}

/** Runs `work` with a child. Resolves only when the child exits with 0. @throws PluginError failed */
async function describeIds(child: ReturnType<typeof startChild>, work: () => Promise<void>): Promise<void> {
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-500);
  });
  const closed = once(child, 'close');
  const [done, end] = await Promise.allSettled([work(), closed]);
  const name = child.spawnargs.slice(4).join(' ').slice(0, 80);
  if (end.status === 'rejected') throw new PluginError('failed', `${name} could not be started`, { cause: end.reason });
  if (end.value[0] !== 0) throw new PluginError('failed', `${name} ended with ${end.value[0]}: ${said.trim()}`);
  if (done.status === 'rejected') throw done.reason;
}

/** A line of getfacl with the id shifted. The owner lines are dropped, so that setfacl sets no owner. The flags line stays:
 *  without it setfacl would clear setuid and setgid. */
export function shiftAcl(line: string, shift: IdShift): string | undefined {
  if (line.startsWith('# file: ') || line.startsWith('# flags: ') || line === '') return line;
  if (line.startsWith('#')) return undefined;
  return line.replace(/^((?:default:)?(user|group)):(\d+):/, (_all, head: string, kind: string, id: string) => {
    return `${head}:${kind === 'user' ? shift.uid(Number(id)) : shift.gid(Number(id))}:`;
  });
}

/** A security.capability value with the root id shifted (include/uapi/linux/capability.h). Revision 2 has 20 bytes; revision 3 has
 *  four more, the root id of the one user namespace for which it holds. */
export function shiftCapability(line: string, shift: IdShift): string {
  const [, hex] = /^security\.capability=0x([0-9a-f]+)$/i.exec(line) ?? [];
  if (hex === undefined) return line;
  const value = Buffer.from(hex, 'hex');
  const root = shift.uid(value.length >= 24 ? value.readUInt32LE(20) : 0);
  const fresh = Buffer.alloc(root === 0 ? 20 : 24);
  value.copy(fresh, 0, 0, 20);
  fresh[3] = root === 0 ? 2 : 3;
  if (root !== 0) fresh.writeUInt32LE(root, 20);
  return `security.capability=0x${fresh.toString('hex')}`;
}

/** Shifts a whole tree. Call it once only. @throws PluginError invalid, failed, aborted */
export async function shiftTree(folder: string, shift: IdShift, signal: AbortSignal): Promise<void> {
  const acls = await carryId(['getfacl', '-R', '-P', '-n', '-p', '--skip-base', '--', folder], (line) => shiftAcl(line, shift), [
    'setfacl',
    '--restore=-',
  ]);
  const capabilities = await carryId(
    ['getfattr', '-R', '-P', '-h', '--absolute-names', '-d', '-m', '^security\\.capability$', '-e', 'hex', '--', folder],
    (line) => shiftCapability(line, shift),
    ['setfattr', '-h', '--restore=-'],
  );
  const unlocked: Unlocked = new Map();
  await shiftOwners(folder, shift, signal, unlocked); // chown clears capabilities
  await acls();
  await capabilities();
  for (const [path, flags] of unlocked) await lockPath(Buffer.from(path, 'latin1'), flags);
}
