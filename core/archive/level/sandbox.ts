/** tar, and what looks for inode flags and sets them, in a sandbox. Whoever may write to a target may write an archive, and one level's link would be another level's
 *  folder: `x -> /etc`, then `x/passwd`. So bubblewrap gives them a root that holds /usr, read-only, and one tree. */
import type { ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { PluginError } from '../../contract/index.js';
import { groupChild } from '../../primitives/child.js';

export interface ConfinedTree {
  readonly kind: 'folder' | 'file';
  /** Of a file that is read: the file itself, all that is seen of its folder. */
  readonly path: string;
  readonly access: 'read' | 'write';
  /** The tree as `heldElsewhere` gave it. */
  readonly held?: FileHandle | undefined;
  /** Files of ours that tar may write, by their names in the sandbox. They must be there. */
  readonly files?: Readonly<Record<string, string>>;
}

/** Where the tree lies in the sandbox. */
const inside = '/data';

const sandbox = [
  '--die-with-parent', // which is the worker thread
  ...['--unshare-pid', '--as-pid-1'], // and with tar dies all that it has started
  '--unshare-ipc',
  ...['--ro-bind', '/usr', '/usr', '--symlink', 'usr/bin', '/bin', '--symlink', 'usr/lib', '/lib', '--symlink', 'usr/lib64', '/lib64'],
  ...['--cap-add', 'ALL'], // owners, device nodes and trusted.* attributes
];
/** bwrap's own --unshare-net would need CAP_NET_ADMIN, for a loopback interface. */
const withoutNetwork = ['unshare', '--net', '--'];

/** A tree of another mount namespace (/proc/PID/root) cannot be bound here, and bwrap would bind what its link reads as:
 *  this machine's own root. They get it as a descriptor. @throws PluginError unavailable */
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

/** The tree in the sandbox; a descriptor follows the standard ones. */
const folderOf = ({ held }: ConfinedTree): string => (held ? '/proc/self/fd/3' : inside);

/** Starts a command in the tree. It dies with the worker thread that started it, and its own children with it. */
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

/** Starts tar in the tree, likewise. A folder that it is told to change to it only holds open, and without /proc it sets each
 *  attribute below by a change of folder there and back, a twentieth of its processor time with small files. So it is begun there,
 *  except where the folder lies in another mount namespace and so has no path, which it asks for first. */
export function confineTar(tree: ConfinedTree, args: readonly string[], stdio: readonly ('ignore' | 'pipe')[]): ChildProcess {
  if (tree.held) return confine(tree, '/', ['tar', `--directory=${folderOf(tree)}`, ...args], stdio);
  return confine(tree, folderOf(tree), ['tar', ...args], stdio);
}

/** Starts a command for names that come by its standard input, each ended by NUL and relative to the tree. */
export function confineNames(tree: ConfinedTree, command: readonly string[], stdio: readonly ('ignore' | 'pipe')[]): ChildProcess {
  return confine(tree, folderOf(tree), ['xargs', '-0', ...command], stdio);
}

/** Starts a Perl script. For one that comes as an argument perl opens /dev/null. */
export function confinePerl(tree: ConfinedTree, script: string, stdio: readonly ('ignore' | 'pipe')[]): ChildProcess {
  return confine(tree, folderOf(tree), ['perl', '-e', script], stdio, ['--dev-bind', '/dev/null', '/dev/null']);
}
