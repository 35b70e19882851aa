import { readFileSync, readlinkSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ContainerState, PluginError } from '../../../core/contract/index.js';
import { syncFolder, writeDurably } from '../../shared/durable.js';

/** What is exchanged by rename: `built` takes the place of `final`, which is kept as `old` until success. */
export interface Place {
  readonly mode: 'whole' | 'entries';
  readonly built: string;
  readonly final: string;
  readonly old: string;
  readonly hadFinal: boolean;
  /** Missing folders above final, outermost first. */
  readonly parents: readonly string[];
  /** Folder or file that exists only for the draft and goes with it. */
  readonly scratch: readonly string[];
  /** For `entries`: names that are moved in; those found elsewhere than in `built` have been moved. */
  readonly names: readonly string[];
  /** What the run leaves out of it: it stays as it is. Journals of earlier versions have none. */
  readonly excludes?: readonly string[];
}

export interface Journal {
  readonly owner: string; // "pid/task/tid starttime"
  readonly container: string;
  readonly action: 'create' | 'replace';
  readonly former: ContainerState;
  readonly phase: 'building' | 'swapping' | 'committed';
  readonly places: readonly Place[];
  /** committed: what was replaced is kept until then, epoch ms. */
  readonly undoUntil?: number;
}

export const draftPrefix = '.container-backup-draft-';

function startTime(task: string): string {
  const text = readFileSync(join('/proc', task, 'stat'), 'utf8');
  // the second field is the command in parentheses and may hold blanks
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

/** Names the calling thread, unmistakably even when ids are used again. Synchronous: other ways run in libuv's pool. */
export function ownerOfThisThread(): string {
  const task = readlinkSync('/proc/thread-self');
  return `${task} ${startTime(task)}`;
}

export function ownerAlive(owner: string): boolean {
  const [task = '', start = ''] = owner.split(' ');
  if (!/^\d+\/task\/\d+$/.test(task)) return false;
  try {
    return startTime(task) === start;
  } catch {
    return false; // no such thread
  }
}

const fileName = 'journal.json';

/** Makes a journal durable before what it tells is done. */
export async function writeJournal(folder: string, journal: Journal): Promise<void> {
  await mkdir(folder, { mode: 0o755, recursive: true });
  await writeDurably(folder, fileName, JSON.stringify(journal));
  await syncFolder(join(folder, '..'));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

function isPlace(value: unknown): value is Place {
  if (!isObject(value) || (value.mode !== 'whole' && value.mode !== 'entries') || typeof value.hadFinal !== 'boolean') return false;
  const absolute = [value.built, value.final, value.old].every((path) => typeof path === 'string' && path.startsWith('/'));
  if (value.excludes !== undefined && !isTexts(value.excludes)) return false;
  return absolute && isTexts(value.parents) && isTexts(value.scratch) && isTexts(value.names);
}

function isJournal(value: unknown): value is Journal {
  if (!isObject(value) || typeof value.owner !== 'string' || typeof value.container !== 'string') return false;
  const words =
    ['create', 'replace'].includes(String(value.action)) &&
    ['running', 'frozen', 'stopped'].includes(String(value.former)) &&
    ['building', 'swapping', 'committed'].includes(String(value.phase));
  if (value.undoUntil !== undefined && typeof value.undoUntil !== 'number') return false;
  return words && Array.isArray(value.places) && value.places.every(isPlace);
}

/** undefined when the draft died before it had one. @throws PluginError damaged */
export async function readJournal(folder: string): Promise<Journal | undefined> {
  const file = join(folder, fileName);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(text);
    if (isJournal(value)) return value;
  } catch {
    // told below
  }
  throw new PluginError('damaged', `${file} is not a journal; look at ${folder} and remove it by hand`);
}
