/** Opens the two copies of the rows: makes them only in a new folder, compares them, and repairs one from the other. */
import { cp, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { PluginLog } from '../../contract/index.js';
import { syncFolder } from '../../primitives/durable.js';
import { hasCode } from '../../primitives/guards.js';
import { isNoSpace, StateDamaged, stateErrorOf, wordsOf } from '../failure.js';
import { adoptState, ranEarlier } from './adoption.js';
import { Level } from './db.js';
import { type Format, newFormat, readFormat, tracesIn, writeFormat } from './format.js';
import { Journal, journalFile, journalNumbers } from './journal.js';
import { type JournalCopy, readJournal, type State } from './reading.js';
import { Rows, type Stamp } from './rows.js';
import { type CopyReport, type FoundCopies, judge, losses } from './verdict.js';

export interface OpenedState extends State {
  readonly level: Level;
  readonly journal: Journal;
}

export interface StateFolders {
  readonly folder: string;
  readonly log: PluginLog;
}

export const levelFolder = (folder: string): string => join(folder, 'db');
export const journalFolder = (folder: string): string => join(folder, 'journal');

/** The present time, for a file name. */
export const asideTime = (): string =>
  new Date()
    .toISOString()
    .replace(/\.\d+Z$/, '')
    .replaceAll(':', '-');

/** Renames a file or folder to an unused name. Deletes nothing. @returns the name */
export async function setAside(path: string, word: string): Promise<string> {
  const stamp = asideTime();
  const parent = dirname(path);
  const taken = new Set(await readdir(parent));
  const base = `${basename(path)}.${word}-${stamp}`;
  let name = base;
  for (let n = 2; taken.has(name); n++) name = `${base}-${n}`;
  await rename(path, join(parent, name));
  await syncFolder(parent);
  return name;
}

/** @throws ServiceError when the folder is in use or cannot be written
 *  @throws StateDamaged when no copy proves that it has all acknowledged rows; then nothing was changed */
export async function openState({ folder, log }: StateFolders): Promise<OpenedState> {
  const { format, problem } = await readFormat(folder);
  if (format?.phase === 'beginning') return beginState(folder, format);
  if (!format && (await tracesIn(folder)).length === 0) return beginState(folder, newFormat());
  const look = await lookAt(folder, format?.id);
  try {
    const adopted = adoptState({ ...look.found, id: format?.id, ranEarlier: await ranEarlier(folder) });
    const { state, report } = adopted ? { state: adopted } : judge(look.found);
    if (!state) throw new StateDamaged(folder, report);
    if (adopted) tellAdopted(log, adopted, look.found.journals[0]);
    else if (problem) log('warn', `${problem}; it is written again from the copies of the rows`);
    const level = await healLevel({ folder, log }, state, look, adopted !== undefined);
    const journal = await healJournal({ folder, log }, state, look, adopted !== undefined);
    if (!format) await writeFormat(folder, { ...newFormat(), id: state.stamp.id, phase: 'kept' });
    if (look.before) await rm(look.before, { recursive: true });
    else await setAside(`${levelFolder(folder)}.before`, 'damaged').catch(unlessMissing); // of a rescue that has ended
    return { ...state, level, journal };
  } catch (error) {
    await look.level?.close();
    throw error;
  }
}

/** Makes the state in a new folder, or in one whose first start was interrupted before anything was acknowledged. */
async function beginState(folder: string, format: Format): Promise<OpenedState> {
  await writeFormat(folder, format);
  for (const path of [levelFolder(folder), journalFolder(folder)]) await rm(path, { recursive: true, force: true });
  const rows = new Rows();
  const stamp: Stamp = { id: format.id, seq: 0, digest: rows.digest };
  const level = await makeLevel(folder, { rows, stamp });
  const journal = await Journal.create(journalFolder(folder), 1, rows, stamp);
  await syncFolder(folder);
  await writeFormat(folder, { ...format, phase: 'kept' });
  return { rows, stamp, level, journal };
}

/** Sets the database aside and makes a new one. @returns it, and the old one's new name */
export async function remakeLevel(folder: string, state: State): Promise<{ readonly level: Level; readonly aside: string | undefined }> {
  const aside = await setAside(levelFolder(folder), 'damaged').catch(unlessMissing);
  return { level: await makeLevel(folder, state), aside };
}

/** Builds the database beside and renames it, so that a partial one is never opened. */
async function makeLevel(folder: string, { rows, stamp }: State): Promise<Level> {
  const path = levelFolder(folder);
  await rm(`${path}.new`, { recursive: true, force: true });
  const level = await Level.open(`${path}.new`, { make: true });
  await level.fill(rows, stamp).finally(() => level.close());
  await rename(`${path}.new`, path);
  await syncFolder(folder);
  return Level.open(path, { probed: true });
}

interface Look {
  readonly found: FoundCopies;
  /** The open database, if it can be opened; its lock keeps other processes out. */
  readonly level: Level | undefined;
  /** A copy of the database from before it was opened. */
  readonly before: string | undefined;
}

async function openLevel(folder: string): Promise<Level | CopyReport> {
  const name = levelFolder(folder);
  const report = (problem: string): CopyReport => ({ name, rows: 0, seq: undefined, problems: [problem] });
  if (!(await readdir(folder)).includes('db')) return report('it is missing'); // Level would make the folder
  try {
    return await Level.open(name);
  } catch (error) {
    const failure = stateErrorOf(folder, error);
    if (failure || isNoSpace(error)) throw failure ?? error;
    return report(wordsOf(error));
  }
}

interface Journals {
  readonly copies: readonly JournalCopy[];
  readonly absent: readonly CopyReport[];
}

export async function readJournals(folder: string, after: number): Promise<Journals> {
  const copies: JournalCopy[] = [];
  const absent: CopyReport[] = [];
  const report = (name: string, problem: string) => void absent.push({ name, rows: 0, seq: undefined, problems: [problem] });
  const numbers = await journalNumbers(journalFolder(folder));
  if (numbers.length === 0) report(journalFolder(folder), 'the journal has no file');
  for (const number of numbers) {
    const name = journalFile(journalFolder(folder), number);
    await readJournal(name, number, after).then(
      (copy) => copies.push(copy),
      (error: unknown) => report(name, wordsOf(error)),
    );
  }
  return { copies, absent };
}

/** Copies the database before it is opened, unless the journal is whole: opening makes Level drop damaged parts of its log.
 *  @returns the copy's path; undefined when it was not needed, or an earlier start has made it */
async function copyLevel(folder: string): Promise<string | undefined> {
  const path = `${levelFolder(folder)}.before`;
  const names = await readdir(folder);
  if (!names.includes('db') || names.includes('db.before')) return undefined;
  await rm(`${path}.new`, { recursive: true, force: true });
  await cp(levelFolder(folder), `${path}.new`, { recursive: true }).catch(async (error: unknown) => {
    await rm(`${path}.new`, { recursive: true, force: true }); // a partial copy would use the last room
    throw error;
  });
  await rename(`${path}.new`, path);
  return path;
}

/** Reads all copies. */
export async function lookAt(folder: string, id: string | undefined): Promise<Look> {
  const first = await readJournals(folder, Number.POSITIVE_INFINITY);
  const before = first.copies[0]?.whole ? undefined : await copyLevel(folder);
  const opened = await openLevel(folder);
  const level = opened instanceof Level ? opened : undefined;
  const copy = await level?.read();
  // Read again, now that the database's lock keeps other writers out, unless the newest file is all that is needed.
  const enough = first.copies[0]?.whole && (copy?.stamp?.seq ?? 0) <= (first.copies[0].stamp?.seq ?? 0);
  const journals = enough ? first : await readJournals(folder, copy?.stamp?.seq ?? Number.POSITIVE_INFINITY);
  const absent = [...(opened instanceof Level ? [] : [opened]), ...journals.absent];
  return { found: { id, level: copy, journals: journals.copies, absent }, level, before };
}

/** Logs the adoption, and the rows that only the journal has, which the earlier version did not know. */
function tellAdopted(log: PluginLog, { rows }: State, journal: JournalCopy | undefined): void {
  log('info', `the state of an earlier version is adopted: ${rows.size} rows`);
  const lost = journal ? losses(rows, journal.rows) : [];
  if (lost.length > 0)
    log('warn', `an earlier version ran meanwhile; rows that it did not know are in the journal that was set aside`, { lost });
}

async function healLevel({ folder, log }: StateFolders, state: State, { level, found }: Look, adopted: boolean): Promise<Level> {
  const { stamp, rows } = state;
  const copy = found.level;
  if (level && copy && ((adopted && copy.earlier) || (copy.whole && copy.stamp?.id === stamp.id))) {
    if (copy.stamp?.seq === stamp.seq) return level;
    const changed = rows.differencesFrom(copy.rows);
    await level.write(changed, stamp);
    const missing = stamp.seq - (copy.stamp?.seq ?? 0);
    if (!adopted) log('warn', `the database lacked the last ${missing} writes; ${changed.size} rows were restored from the journal`);
    return level;
  }
  await level?.close();
  const problem =
    copy?.problems[0] ?? found.absent.find(({ name }) => name === levelFolder(folder))?.problems[0] ?? "it is another appliance's";
  const remade = await remakeLevel(folder, state);
  const kept = remade.aside ? `, the old one was set aside as ${remade.aside}` : '';
  log('warn', `the database is rebuilt from the journal, ${rows.size} rows${kept}: ${problem}`);
  return remade.level;
}

async function healJournal({ folder, log }: StateFolders, state: State, { found }: Look, adopted: boolean): Promise<Journal> {
  const { stamp, rows } = state;
  const path = journalFolder(folder);
  const [newest, ...older] = found.journals;
  const isOwn = (copy: JournalCopy) => copy.whole && copy.stamp?.id === stamp.id;
  if (newest && isOwn(newest) && newest.stamp?.seq === stamp.seq) {
    if (newest.torn > 0)
      log('warn', `the journal ended in ${newest.torn} bytes of an interrupted write that was never acknowledged; they are dropped`);
    const journal = await Journal.goOn(path, newest.number, newest.bytes, rows);
    for (const copy of older) await (isOwn(copy) ? rm(copy.name) : setAside(copy.name, 'damaged')); // the newest replaces them
    return journal;
  }
  const next = Math.max(0, ...(await journalNumbers(path))) + 1;
  for (const copy of found.journals) {
    if (isOwn(copy) && !adopted) continue;
    const name = await setAside(copy.name, isOwn(copy) ? 'later' : 'damaged');
    const why = copy.problems[0] ?? (isOwn(copy) ? 'an earlier version ran after it' : "it is another appliance's");
    log('warn', `the journal is not continued, it was set aside as ${name}: ${why}`);
  }
  const journal = await Journal.create(path, next, rows, stamp);
  await syncFolder(folder);
  for (const copy of found.journals) if (isOwn(copy) && !adopted) await rm(copy.name);
  if (!adopted)
    log('warn', `the journal is rebuilt from the database, ${rows.size} rows`, { lacked: stamp.seq - (newest?.stamp?.seq ?? 0) });
  return journal;
}

export function unlessMissing(error: unknown): undefined {
  if (!hasCode(error, 'ENOENT')) throw error;
  return undefined;
}
