/** A restore leaves excluded paths untouched: the swap moves them from the old tree into the new one, and a revert or an undo
 *  moves them back. Both trees lie on one file system. */
import { chmod, chown, lstat, mkdir, rm } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { innerMounts, removeUnlocked } from '../mounts.js';
import { present } from '../presence.js';
import { childOutput, startChild } from '../primitives/child.js';
import { at, inside, namesIn, ownPrefix, parentOf, toLatin1 } from './place.js';
import type { TouchLog } from './touched.js';

/** Paths that find skips: they belong to the file system or to drafts. */
const untouched = ['(', '-path', `./${ownPrefix}*`, '-o', '-path', './lost+found', ')', '-prune', '-o'] as const;
/** Most characters of names in memory: more than a hundred thousand excluded files. */
const namesLimit = 16 << 20;

/** Paths that find prints. Its -path matches as tar's --exclude does: by fnmatch, with `*` matching slashes too. */
async function foundIn(folder: string, tests: readonly string[]): Promise<string[]> {
  const child = startChild('find', ['.', '-xdev', '-mindepth', '1', ...untouched, ...tests, '-prune', '-print0'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [names, said] = ['', ''];
  child.stdout?.setEncoding('latin1').on('data', (text: string) => {
    if (names.length <= namesLimit) names += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = `${said}${text}`.slice(0, 1000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new PluginError('failed', `the excluded paths of ${folder} could not be listed: ${said.trim()}`);
  if (names.length > namesLimit)
    throw new PluginError('unsupported', `the backup of ${folder} leaves out too many files one by one; exclude their folder instead`);
  return names
    .split('\0')
    .filter((name) => name !== '')
    .map((name) => name.slice(2));
}

/** The topmost paths of a tree that patterns of Source.excludes match. */
export async function excludedPaths(folder: string, excludes: readonly string[]): Promise<string[]> {
  const own = (await namesIn(at(folder, ''))).filter((name) => name.startsWith(ownPrefix));
  const patterns = excludes.map((pattern) => pattern.replace(/(?<=.)\/+$/, '')).filter((pattern) => pattern !== `./${ownPrefix}*`);
  const tests = patterns.flatMap((pattern, n) => [...(n === 0 ? [] : ['-o']), '-path', pattern]);
  const found = tests.length === 0 ? [] : await foundIn(folder, ['(', ...tests, ')']);
  // find descends into a bind mount of the same file system; nothing inside a mount is moved
  const mounts = (await innerMounts(folder)).map((path) => `${toLatin1(path.slice(folder.length + 1))}/`);
  const outside = found.filter((path) => !mounts.some((mount) => path.startsWith(mount)));
  return [...own, ...outside];
}

export interface CarryOptions {
  /** Patterns, as in Source.excludes. */
  readonly excludes: readonly string[];
  /** Paths not to move, as latin-1. */
  readonly except?: ReadonlySet<string>;
}

/** Moves excluded paths from one tree into the other, except those that exist there and this product's own at the top. Durable
 *  when it resolves. Idempotent. @throws PluginError failed, unsupported */
export async function carryExcluded(from: string, to: string, { excludes, except }: CarryOptions, log: TouchLog): Promise<void> {
  const paths: string[] = [];
  const folders = new Map<string, Buffer>();
  for (const path of await excludedPaths(from, excludes)) {
    if (path.startsWith(ownPrefix) || except?.has(path) || (await present(at(to, path)))) continue;
    paths.push(path);
    folders.set(`from ${parentOf(path)}`, at(from, parentOf(path)));
    const above = await closestFolder(to, path);
    folders.set(`to ${above}`, at(to, above));
  }
  if (paths.length === 0) return;
  await log.keep([...folders.values()], { unlock: true }, async () => {
    for (const path of paths) {
      await makeParents(from, to, path);
      await log.rename(at(from, path), at(to, path));
    }
  });
  await childOutput('sync', ['-f', '--', to]); // moved paths may lie in any folder
}

/** The deepest existing folder above a path. */
async function closestFolder(tree: string, path: string): Promise<string> {
  let above = parentOf(path);
  while (!(await present(at(tree, above)))) above = parentOf(above);
  return above;
}

/** Makes the folders above a path with mode and owner of the other tree. */
async function makeParents(from: string, to: string, path: string): Promise<void> {
  const parts = path.split('/').slice(0, -1);
  for (const [n] of parts.entries()) {
    const parent = parts.slice(0, n + 1).join('/');
    if (await present(at(to, parent))) continue;
    const { mode, uid, gid } = await lstat(at(from, parent));
    await mkdir(at(to, parent));
    await chown(at(to, parent), uid, gid);
    await chmod(at(to, parent), mode & 0o7777);
  }
}

/** Removes everything except excluded paths and the folders above them. Idempotent. @returns whether anything is left */
export async function removeHeld(folder: string, excludes: readonly string[]): Promise<boolean> {
  const left = await excludedPaths(folder, excludes);
  if (left.length > 0) await removeBut(folder, '', left);
  return left.length > 0;
}

async function removeBut(tree: string, folder: string, left: readonly string[]): Promise<void> {
  for (const name of await namesIn(at(tree, folder))) {
    const path = inside(folder, name);
    if (left.includes(path)) continue;
    const whole = at(tree, path);
    if (left.some((one) => one.startsWith(`${path}/`))) await removeBut(tree, path, left);
    else await removeUnlocked(whole.toString(), () => rm(whole, { recursive: true, force: true }));
  }
}
