/** Stand-ins carry what tar knows of a file beside its content: an empty file of the same size with the same mode, owner, times, ACL and
 *  attributes. cp(1) of GNU copies these in both directions, and tar stores a stand-in in a few hundred bytes. */
import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path/posix';
import { PluginError } from '../../../contract/index.js';
import { type ConfinedTree, namesOutcome } from '../../level/sandbox.js';

export interface StandIn {
  /** Its bytes as latin-1. */
  readonly path: string;
  readonly size: number;
}

/** Folder of the stand-ins in their archive. */
export const standInFolder = 'meta';

/** The bytes of a path below a folder of ours. */
const bytesOf = (folder: string, path: string): Buffer => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, 'latin1')]);

/** Makes stand-ins in a folder of ours, and copies the attributes of the files in the tree to them. A file that vanished leaves its
 *  stand-in without. */
export async function makeStandIns(tree: ConfinedTree, folder: string, files: readonly StandIn[], signal: AbortSignal): Promise<void> {
  for (const { path, size } of files) {
    const top = join(folder, standInFolder);
    await mkdir(bytesOf(top, dirname(path)), { recursive: true });
    await using made = await open(bytesOf(top, path), 'wx', 0o600);
    await made.truncate(size);
  }
  const confined = { ...tree, files: { '/meta': join(folder, standInFolder) } };
  await forNames(
    confined,
    shell('cp --attributes-only --preserve=all --no-dereference -- "$n" "/meta/$n" || [ ! -e "$n" ]'),
    pathsOf(files),
    signal,
  );
  await forNames(confined, shell('touch -m -r "$n" -- "/meta/$n" || [ ! -e "$n" ]'), foldersOf(files), signal);
}

const pathsOf = (files: readonly StandIn[]): string[] => files.map(({ path }) => path);
const foldersOf = (files: readonly StandIn[]): string[] => [...new Set(files.map(({ path }) => dirname(path)))];

/** xargs gives it names as arguments; the shell parses none of them. */
const shell = (action: string): string[] => ['sh', '-c', `for n; do { ${action}; } || exit 1; done`, 'sh'];

/** Copies the attributes of stand-ins to the files of a tree, and gives these their sizes.
 *  @throws PluginError failed: a file has no such attributes here, or is not there */
export async function applyStandIns(tree: ConfinedTree, folder: string, files: readonly StandIn[], signal: AbortSignal): Promise<void> {
  const confined = { ...tree, files: { '/meta': join(folder, standInFolder) } };
  const each = 'truncate -r "/meta/$n" -- "$n" && cp --attributes-only --preserve=all -- "/meta/$n" "$n"';
  await forNames(confined, shell(each), pathsOf(files), signal);
  // A file that was made anew has given its folder another time.
  await forNames(confined, shell('touch -m -r "/meta/$n" -- "$n"'), foldersOf(files), signal);
}

async function forNames(tree: ConfinedTree, command: readonly string[], names: readonly string[], signal: AbortSignal): Promise<void> {
  const { code, said } = await namesOutcome(tree, 'cp', command, names, signal);
  if (code !== 0) throw new PluginError('failed', `the attributes of big files could not be copied: ${said.trim()}`);
}
