/** What a run leaves out is not touched by its restore: the swap moves it from the old tree into the new one, and going back, or
 *  an undo, moves it back. Both trees lie on one file system. */
import { chmod, chown, lstat, mkdir, readdir, rename } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { childOutput, startChild } from '../child.js';
import { present } from '../places.js';
import { setTime, timeOf } from './attributes.js';
import { at, ownPrefix } from './place.js';

/** find keeps out of them: they belong to the file system and to drafts. */
const untouched = ['(', '-path', `./${ownPrefix}*`, '-o', '-path', './lost+found', ')', '-prune', '-o'] as const;
/** Names in memory; more than a hundred thousand files that are excluded one by one. */
const namesLimit = 16 << 20;

/** What find prints of a folder. Its -path matches as tar's --exclude does: by fnmatch, where a star also stands for slashes. */
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
  if (code !== 0) throw new PluginError('failed', `what the backup of ${folder} leaves out could not be listed: ${said.trim()}`);
  if (names.length > namesLimit)
    throw new PluginError('unsupported', `the backup of ${folder} leaves out too many files one by one; exclude their folder instead`);
  return names
    .split('\0')
    .filter((name) => name !== '')
    .map((name) => name.slice(2));
}

/** The topmost paths of a tree that the patterns of Source.excludes leave out. */
export async function excludedPaths(folder: string, excludes: readonly string[]): Promise<string[]> {
  const own = (await readdir(folder)).filter((name) => name.startsWith(ownPrefix));
  const patterns = excludes.map((pattern) => pattern.replace(/(?<=.)\/+$/, '')).filter((pattern) => pattern !== `./${ownPrefix}*`);
  const tests = patterns.flatMap((pattern, n) => [...(n === 0 ? [] : ['-o']), '-path', pattern]);
  const found = tests.length === 0 ? [] : await foundIn(folder, ['(', ...tests, ')']);
  return [...own.map((name) => Buffer.from(name).toString('latin1')), ...found];
}

/** Makes the folders above a path, as they are in the other tree. */
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

export interface CarryOptions {
  /** As Source.excludes has them. */
  readonly excludes: readonly string[];
  /** Paths that stay, as latin-1. */
  readonly except?: ReadonlySet<string>;
}

/** Moves what the run leaves out from one tree into the other, but for what is there already and for what is ours at the top. Durable when it resolves; twice is fine.
 *  @throws PluginError failed, unsupported */
export async function carryExcluded(from: string, to: string, { excludes, except }: CarryOptions): Promise<void> {
  const times = new Map<string, bigint>();
  for (const path of await excludedPaths(from, excludes)) {
    if (path.startsWith(ownPrefix) || except?.has(path) || (await present(at(to, path)))) continue;
    const parent = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
    await makeParents(from, to, path);
    for (const tree of [from, to]) await noteTime(times, at(tree, parent));
    await rename(at(from, path), at(to, path));
  }
  for (const [folder, mtime] of times) await setTime(Buffer.from(folder, 'latin1'), mtime);
  if (times.size > 0) await childOutput('sync', ['-f', '--', to]); // what was moved lies in any of its folders
}

/** A folder's time is what it was, although a name came or went. */
async function noteTime(times: Map<string, bigint>, folder: Buffer): Promise<void> {
  const key = folder.toString('latin1');
  if (!times.has(key)) times.set(key, await timeOf(folder));
}
