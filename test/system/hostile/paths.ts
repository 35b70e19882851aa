/** Tests hostile paths: a target stores a path as it is or refuses it, and changes nothing outside its base. */
import { execFile } from 'node:child_process';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PluginError, type Target } from '../../../core/contract/index.js';
import { entries, never, read, store } from '../../conformance/target/support.js';
import { part } from '../../support/api-client.js';
import { isText, shownValue } from './values.js';

const run = promisify(execFile);

/** The results of a block of values. */
export interface Tally {
  stored: number;
  refused: number;
  /** Problems, each with its value. */
  readonly problems: string[];
  /** How often each code was the answer. */
  readonly codes: Map<string, number>;
}
/** A few problems of each sort, since one fault shows with many values. */
export function sample(problems: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return problems.filter((text) => {
    const sort = text.split(/["(]/)[0] ?? '';
    seen.set(sort, (seen.get(sort) ?? 0) + 1);
    return (seen.get(sort) ?? 0) <= 5;
  });
}
export const emptyTally = (): Tally => ({ stored: 0, refused: 0, problems: [], codes: new Map() });

export function counted({ stored, refused, codes }: Tally): string {
  return `${stored} stored or opened, ${refused} refused (${[...codes].map(([code, n]) => `${code} ${n}`).join(', ')})`;
}

/** Does the work for each value, with one value at a time in each lane. */
export async function inLanes<Lane>(lanes: readonly Lane[], values: readonly string[], work: (lane: Lane, value: string) => Promise<void>) {
  const rest = values.values();
  await Promise.all(
    lanes.map(async (lane) => {
      for (const value of rest) await work(lane, value);
    }),
  );
}

/** Every path below a folder, its bytes as latin1, since a name need not be text. The path of a folder ends in a slash. */
async function everythingIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (inside: Buffer): Promise<void> => {
    const path = Buffer.concat([Buffer.from(`${folder}/`), inside]);
    for (const entry of await readdir(path, { withFileTypes: true, encoding: 'buffer' }).catch(() => [])) {
      const below = Buffer.concat([inside, entry.name, Buffer.from(entry.isDirectory() ? '/' : '')]);
      found.push(below.toString('latin1'));
      if (entry.isDirectory()) await visit(below);
    }
  };
  await visit(Buffer.alloc(0));
  return found.sort();
}

/** A target whose top is a folder of this machine. */
export interface Lane {
  readonly target: Target;
  readonly root: string;
}

/** A target may keep a folder for its uploads there. */
const ownFolder = /^\.container-backup-[0-9a-f]{16}\.part\//;
const ownFolderInside = /\/\.container-backup-[0-9a-f]{16}\.part\//;

/** Everything in a target's folder except that one. `inside`: in a folder above the target's. */
export async function holds(root: string, o: { readonly inside?: boolean } = {}): Promise<string[]> {
  return (await everythingIn(root)).filter((path) => !(o.inside ? ownFolderInside : ownFolder).test(path));
}

const latin1 = (text: string): string => Buffer.from(text).toString('latin1');

/** What must lie on the server once a file is stored: it and its folders. */
export function expected(path: string): string[] {
  const parts = path.split('/');
  return parts.map((_, i) => latin1(parts.slice(0, i + 1).join('/')) + (i < parts.length - 1 ? '/' : '')).sort();
}

/** The error of work that should have been refused; undefined when it was not. */
export async function errorOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error ?? new Error('nothing was thrown'),
  );
}

/** Codes for a name that the target cannot store. */
const refusals: readonly string[] = ['invalid', 'unsupported', 'exists'];

let files = 0;

/** Stores a file under the path, reads and lists it in every way, and removes it. */
export async function tryPath(
  { target, root }: Lane,
  path: string,
  tally: Tally,
  mayKeep: (path: string) => boolean = isText,
): Promise<void> {
  const problem = (what: string): void => void tally.problems.push(`${what}: ${shownValue(path)}`);
  const bytes = `bytes of file ${files++}`;
  const error = await errorOf(store(target, path, bytes));
  if (error !== undefined) {
    if (!(error instanceof PluginError)) return problem(`put threw (${shownValue(String(error))})`);
    tally.refused++;
    tally.codes.set(error.code, (tally.codes.get(error.code) ?? 0) + 1);
    if (!refusals.includes(error.code)) problem(`put gave ${error.code} (${shownValue(error.message)})`);
    for (const what of await leftBy(target, path)) problem(what);
  } else {
    tally.stored++;
    if (!mayKeep(path)) problem('a name that cannot be kept was taken');
    for (const what of await misread({ target, root }, path, bytes)) problem(what);
    const [first = ''] = path.split('/');
    const failed = await errorOf(target.remove(first));
    if (failed !== undefined) problem(`remove gave (${shownValue(String(failed))})`);
  }
  const left = await holds(root);
  if (left.length === 0) return;
  problem(`left behind: ${shownValue(left.join(' '))}`);
  await cleared(root); // else the following values would show the problem, too
}

/** Removes everything from a target's folder except the target's own files. */
async function cleared(root: string): Promise<void> {
  await run('find', [
    root,
    '-mindepth',
    '1',
    '-maxdepth',
    '1',
    '!',
    '-name',
    '.container-backup-*.part',
    '-exec',
    'rm',
    '-rf',
    '--',
    '{}',
    '+',
  ]);
}

/** Asserts that no other call accepts a path that put has refused. */
async function leftBy(target: Target, path: string): Promise<string[]> {
  const found: string[] = [];
  const got = await errorOf(target.get(path, { signal: never() }).then(read));
  if (!(got instanceof PluginError)) found.push(`get gave ${got === undefined ? 'bytes' : shownValue(String(got))}`);
  const removed = await errorOf(target.remove(path));
  if (removed !== undefined && !(removed instanceof PluginError)) found.push(`remove threw (${shownValue(String(removed))})`);
  return found;
}

/** Problems of a file that must be stored. */
async function misread({ target, root }: Lane, path: string, bytes: string): Promise<string[]> {
  const found: string[] = [];
  const there = await holds(root);
  if (JSON.stringify(there) !== JSON.stringify(expected(path))) found.push(`on the server: ${shownValue(there.join(' '))}`);
  const parts = path.split('/');
  const wanted = { name: parts.at(-1) ?? '', folder: false, size: bytes.length };
  const stat = await target.stat(path).catch(String);
  if (JSON.stringify(stat) !== JSON.stringify(wanted)) found.push(`stat gave ${shownValue(JSON.stringify(stat) ?? '')}`);
  const listed = await entries(target, parts.slice(0, -1).join('/')).catch(String);
  if (JSON.stringify(listed) !== JSON.stringify([wanted])) found.push(`list gave ${shownValue(JSON.stringify(listed))}`);
  const back = await target.get(path, { signal: never() }).then(read).catch(String);
  if (String(back) !== bytes) found.push(`get gave ${shownValue(String(back))}`);
  return found;
}

/** A folder of the server that holds the target's folder. Everything else in it must stay as it is. */
export class Surroundings {
  private constructor(
    readonly folder: string,
    readonly except: readonly string[],
    readonly before: readonly string[],
  ) {}

  /** `except`: first parts of the paths that may change: the target's folder, and the server's own files. */
  static async of(folder: string, except: readonly string[]): Promise<Surroundings> {
    return new Surroundings(folder, except, await lookAround(folder, except));
  }
  /** Paths that were changed, made or removed. */
  async changes(): Promise<string[]> {
    const now = await lookAround(this.folder, this.except);
    const gone = this.before.filter((line) => !now.includes(line));
    const came = now.filter((line) => !this.before.includes(line));
    return [...gone.map((line) => `gone: ${line}`), ...came.map((line) => `came: ${line}`)];
  }
}

async function lookAround(folder: string, except: readonly string[]): Promise<string[]> {
  const paths = (await everythingIn(folder)).filter((path) => !except.some((one) => path.startsWith(one)));
  const lines = paths.map(async (path) => {
    const found = await lstat(Buffer.from(join(folder, path), 'latin1'));
    const text = found.isFile() ? (await readFile(Buffer.from(join(folder, path), 'latin1'))).toString('base64') : '';
    // entries that may change also change the times of their folder
    const times = except.some((one) => one.startsWith(path)) ? '' : found.mtimeMs;
    return `${path} ${found.mode} ${found.uid} ${found.size} ${times} ${text}`;
  });
  return Promise.all(lines);
}

/** Files with the name, in every folder where an executed command could have made them. Follows no link and no other file system. */
export async function filesNamed(mark: string, folders: readonly string[]): Promise<string[]> {
  const everywhere = [...new Set(['/tmp', tmpdir(), homedir(), process.cwd(), '/var/tmp', '/srv', '/run', ...folders])];
  const args = [...everywhere, '-xdev', '-path', '*/node_modules', '-prune', '-o', '-name', `*${mark}*`, '-print'];
  // find also fails when another program removes a file meanwhile; its output is complete nevertheless
  const found = await run('find', args, { env: { ...process.env, LC_ALL: 'C' } }).catch((error: unknown) => ({
    stdout: String(part(error, 'stdout')),
  }));
  const tops = (await readdir('/')).filter((name) => name.includes(mark));
  return [...found.stdout.split('\n').filter((line) => line !== ''), ...tops];
}
