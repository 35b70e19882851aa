/** Runs tar and the tools for inode flags under bubblewrap, in a root that contains /usr, read-only, and one tree. Anybody who can
 *  write to a target can write an archive whose first level makes a symlink, `x -> /etc`, and whose next one writes `x/passwd`. */
import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PluginError } from '../../contract/index.js';
import { childExit, errorsOf, groupChild } from '../../primitives/child.js';

export interface ConfinedTree {
  readonly kind: 'folder' | 'file';
  /** The tree's path. Of a single file, the file: nothing else of its folder is visible. */
  readonly path: string;
  readonly access: 'read' | 'write';
  /** The tree as opened by `heldElsewhere`. */
  readonly held?: FileHandle | undefined;
  /** Files outside the tree that tar may write, by their names in the sandbox. They must exist. */
  readonly files?: Readonly<Record<string, string>>;
}

/** tar's arguments for whatever it extracts. */
export const restoredAttributes = ['--xattrs', '--xattrs-include=*', '--acls', '--same-permissions', '--same-owner', '--numeric-owner'];

/** Path of the tree in the sandbox. */
const inside = '/data';

const sandbox = [
  '--die-with-parent', // the parent is the worker thread
  ...['--unshare-pid', '--as-pid-1'], // tar is process 1, so its children die with it
  '--unshare-ipc',
  ...['--ro-bind', '/usr', '/usr', '--symlink', 'usr/bin', '/bin', '--symlink', 'usr/lib', '/lib', '--symlink', 'usr/lib64', '/lib64'],
  ...['--cap-add', 'ALL'], // owners, device nodes and trusted.* attributes
];
/** Instead of bwrap's --unshare-net, which needs CAP_NET_ADMIN for a loopback interface. */
const withoutNetwork = ['unshare', '--net', '--'];

/** Opens a tree of another mount namespace (/proc/PID/root), to be passed as a descriptor: bwrap cannot bind such a tree, and
 *  would bind the target of the link, this machine's own root. undefined for other trees. @throws PluginError unavailable */
export async function heldElsewhere(path: string): Promise<FileHandle | undefined> {
  if (!path.startsWith('/proc/')) return undefined;
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (cause) {
    throw new PluginError('unavailable', `${path} cannot be opened: its container has stopped`, { cause, retryable: true });
  }
}

function treeArguments({ kind, path, access, held }: ConfinedTree): string[] {
  if (held) return ['--proc', '/proc'];
  return [access === 'read' ? '--ro-bind' : '--bind', path, kind === 'file' ? `${inside}/${basename(path)}` : inside];
}

/** Path of the tree in the sandbox; the descriptor of a held tree comes after stdin, stdout and stderr. */
const folderOf = ({ held }: ConfinedTree): string => (held ? '/proc/self/fd/3' : inside);

/** Starts a command in the tree. It dies with the worker thread that started it, and so do its children. */
function confine(
  tree: ConfinedTree,
  folder: string,
  command: readonly string[],
  stdio: readonly ('ignore' | 'pipe')[],
  more: readonly string[] = [],
): ChildProcess {
  const files = Object.entries(tree.files ?? {}).flatMap(([name, path]) => ['--bind', path, name]);
  const root = [...sandbox, ...treeArguments(tree), ...files, ...more, '--remount-ro', '/', '--chdir', folder];
  return groupChild('bwrap', [...root, '--', ...withoutNetwork, ...command], [...stdio, ...(tree.held ? [tree.held.fd] : [])]);
}

/** Starts tar in the tree. tar starts there instead of getting --directory: such a folder tar only keeps open, and without /proc
 *  it sets each attribute by changing folder there and back, a twentieth of its processor time with small files. A held tree has
 *  no path in the sandbox, so there tar gets --directory. */
export function confineTar(tree: ConfinedTree, args: readonly string[], stdio: readonly ('ignore' | 'pipe')[]): ChildProcess {
  if (tree.held) return confine(tree, '/', ['tar', `--directory=${folderOf(tree)}`, ...args], stdio);
  return confine(tree, folderOf(tree), ['tar', ...args], stdio);
}

/** Starts a program in the tree. It has /dev/null: perl opens that for a script given as argument, and tar reads no file when it writes
 *  there. */
export function confineTool(tree: ConfinedTree, command: readonly string[], stdio: readonly ('ignore' | 'pipe')[]): ChildProcess {
  return confine(tree, folderOf(tree), command, stdio, ['--dev-bind', '/dev/null', '/dev/null']);
}

/** Starts a command for names from its standard input, each ended by NUL and relative to the tree. */
export function confineNames(tree: ConfinedTree, command: readonly string[], stdio: readonly ('ignore' | 'pipe')[]): ChildProcess {
  return confine(tree, folderOf(tree), ['xargs', '-0', ...command], stdio);
}

export const confinePerl = (tree: ConfinedTree, script: string, stdio: readonly ('ignore' | 'pipe')[]): ChildProcess =>
  confineTool(tree, ['perl', '-e', script], stdio);

/** Names for `xargs -0`; `./` keeps them from looking like options. */
export const nulNames = (names: readonly string[]): Buffer => Buffer.from(names.map((name) => `./${name}\0`).join(''), 'latin1');

/** Runs a command for names to its end, and gives it all of them.
 *  @param name of the program in messages @returns the exit code of xargs, and the beginning of what was said @throws PluginError */
export async function namesOutcome(
  tree: ConfinedTree,
  name: string,
  command: readonly string[],
  names: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly code: number; readonly said: string }> {
  const child = confineNames(tree, command, ['pipe', 'ignore', 'pipe']);
  const said = errorsOf(child);
  const exit = childExit(child, name, signal);
  if (!child.stdin) throw new PluginError('failed', `${name} has no input`);
  await pipeline(Readable.from([nulNames(names)]), child.stdin).catch(() => undefined); // EPIPE; the exit code decides
  return { code: await exit, said: said() };
}
