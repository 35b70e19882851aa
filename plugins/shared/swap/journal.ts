/** The durable list of what a restore made and moved, so that another thread can finish or revert it after a crash. */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { isAbsent } from '../presence.js';
import { syncFolder, writeDurably } from '../primitives/durable.js';
import { type Fields, isFields } from '../primitives/guards.js';
import { isAlive, nobody, type Owner, ownerOfThisThread } from '../primitives/owner.js';
import type { Above, Parent, PinnedFolder, Place, Way } from './place.js';
import type { Touched } from './touched.js';

/** draft: nothing that exists was touched · swap: to be reverted · done: the new files are live; only the old ones are left to
 *  remove. */
export type Phase = 'draft' | 'swap' | 'done';

export interface SwapJournal {
  readonly id: string;
  readonly owner: Owner;
  /** The container's name. */
  readonly container: string;
  phase: Phase;
  /** done: the old files are stored until then, epoch ms; 0: not at all. */
  undoUntil: number;
  /** An undo was asked for after `done`. */
  undoing: boolean;
  places: Place[];
}

/** `Own`: the engine's own fields. */
export type Journal<Own> = SwapJournal & Own;

const isText = (value: unknown): value is string => typeof value === 'string';
const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every(isText);

const ways: readonly unknown[] = ['made', 'rename', 'contents', 'carry'] satisfies Way[];

function isParent(value: unknown): value is Parent {
  return isFields(value) && isText(value.path) && isCount(value.mode) && isCount(value.uid) && isCount(value.gid);
}

function isPinned(value: unknown): value is PinnedFolder {
  return (
    isFields(value) &&
    isText(value.path) &&
    isTexts(value.enter) &&
    isTexts(value.stay) &&
    isText(value.flags) &&
    (value.builtFlags === undefined || isText(value.builtFlags)) &&
    isText(value.mtime) &&
    isText(value.builtMtime)
  );
}

/** Accepts an absent field, which journals of earlier versions lack. */
const isMissingOr = (value: unknown, is: (value: unknown) => boolean): boolean => value === undefined || is(value);

const isAbove = (value: unknown): value is Above =>
  isFields(value) && isText(value.path) && isText(value.before) && isMissingOr(value.after, isText);

const isTouched = (value: unknown): value is Touched =>
  isFields(value) && isTexts(value.paths) && isText(value.flags) && isMissingOr(value.mtime, isText);
const isTouchedList = (value: unknown): value is Touched[] => Array.isArray(value) && value.every(isTouched);

function isPlace(value: unknown): value is Place {
  if (!isFields(value) || !ways.includes(value.way) || (value.kind !== 'folder' && value.kind !== 'file')) return false;
  const paths = [value.live, value.built, value.old, value.scratch].every(isText) && String(value.live).startsWith('/');
  const { parents, pinned } = value;
  const lists = isTexts(value.excludes) && Array.isArray(parents) && parents.every(isParent) && Array.isArray(pinned);
  const { stays, above, touched } = value;
  const later = isMissingOr(stays, (one) => typeof one === 'boolean') && isMissingOr(above, isAbove) && isMissingOr(touched, isTouchedList);
  return paths && lists && pinned.every(isPinned) && typeof value.had === 'boolean' && later;
}

function isSwapJournal(value: unknown): value is SwapJournal & Fields {
  if (!isFields(value) || !isText(value.id) || !isText(value.container) || !isFields(value.owner)) return false;
  const owner = isText(value.owner.task) && isText(value.owner.started);
  const phase = value.phase === 'draft' || value.phase === 'swap' || value.phase === 'done';
  return (
    owner &&
    phase &&
    isCount(value.undoUntil) &&
    typeof value.undoing === 'boolean' &&
    Array.isArray(value.places) &&
    value.places.every(isPlace)
  );
}

const fileName = (id: string): string => `swap-${id}.json`;
const filePattern = /^swap-([0-9a-f]{8}|[0-9a-f]{12})\.json$/; // eight digits: an earlier version
/** Name of a journal until its rename; it names the thread that writes it. */
const partName = (id: string, { task, started }: Owner): string => `${fileName(id)}.${task.replaceAll('/', '-')}-${started}.part`;
const partPattern = /^swap-(?:[0-9a-f]{8}|[0-9a-f]{12})\.json\.(?:(\d+)-task-(\d+)-(\d+)\.)?part$/;

/** The journals of an engine, one for each restore, in the plugin's folder. */
export class Journals<Own> {
  /** @param parseOwn the engine's own fields; undefined when the journal is no journal of this engine */
  constructor(
    private readonly folder: string,
    private readonly parseOwn: (value: Fields) => Own | undefined,
  ) {}

  /** A new journal, owned by this thread; not written yet. */
  create(container: string, own: Own): Journal<Own> {
    const id = randomBytes(6).toString('hex');
    return { id, owner: ownerOfThisThread(), container, phase: 'draft', undoUntil: 0, undoing: false, places: [], ...own };
  }

  /** Writes the journal; durable when it resolves. */
  write(journal: Journal<Own>): Promise<void> {
    return writeDurably(this.folder, fileName(journal.id), JSON.stringify(journal), partName(journal.id, ownerOfThisThread()));
  }

  /** Removes half-written files of dead threads. */
  async removeParts(): Promise<void> {
    for (const name of await readdir(this.folder)) {
      const [part, pid, thread, started = ''] = partPattern.exec(name) ?? [];
      if (part !== undefined && !isAlive({ task: `${pid}/task/${thread}`, started })) await rm(`${this.folder}/${part}`, { force: true });
    }
  }

  /** Makes this thread the owner, or nobody, so that the next recovery continues it. */
  async claim(journal: Journal<Own>, owner: 'mine' | 'nobody'): Promise<Journal<Own>> {
    const claimed = { ...journal, owner: owner === 'mine' ? ownerOfThisThread() : nobody };
    await this.write(claimed);
    return claimed;
  }

  async remove({ id }: Journal<Own>): Promise<void> {
    await rm(`${this.folder}/${fileName(id)}`, { force: true });
    await syncFolder(this.folder);
  }

  /** All readable journals, and an error for each of the others. */
  async read(): Promise<{ readonly journals: readonly Journal<Own>[]; readonly damaged: readonly PluginError[] }> {
    const journals: Journal<Own>[] = [];
    const damaged: PluginError[] = [];
    for (const name of (await readdir(this.folder)).filter((one) => filePattern.test(one))) {
      const content = await this.#content(name);
      if (content === undefined) continue; // another thread finished it meanwhile
      const journal = this.#parse(content);
      if (journal && fileName(journal.id) === name) journals.push(journal);
      else damaged.push(new PluginError('damaged', `${this.folder}/${name} is no journal of a restore; check it and remove it`));
    }
    return { journals, damaged };
  }

  /** All journals but this one. */
  async others({ id }: Journal<Own>): Promise<readonly Journal<Own>[]> {
    return (await this.read()).journals.filter((one) => one.id !== id);
  }

  async #content(name: string): Promise<string | undefined> {
    try {
      return await readFile(`${this.folder}/${name}`, 'utf8');
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  #parse(content: string): Journal<Own> | undefined {
    try {
      const value: unknown = JSON.parse(content);
      const own = isSwapJournal(value) ? this.parseOwn(value) : undefined;
      return own === undefined || !isSwapJournal(value) ? undefined : { ...value, ...own };
    } catch {
      return undefined; // the caller reports it
    }
  }
}
