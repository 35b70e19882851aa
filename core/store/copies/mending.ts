/** What a person may do about a state that is damaged. The service does none of it by itself. */
import { cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../../durable.js';
import { nextId } from '../../primitives/guards.js';
import { stateErrorOf, wordsOf } from '../failure.js';
import { Level, type LevelCopy } from './db.js';
import { newFormat, readFormat, tracesIn, writeFormat } from './format.js';
import { Journal, journalNumbers } from './journal.js';
import { surviveLevel } from './probe.js';
import type { State } from './reading.js';
import { makeRow, type Rows } from './rows.js';
import { asideTime, journalFolder, levelFolder, lookAt, openState, type StateFolders } from './state.js';
import { judge, losses, type StateReport } from './verdict.js';

export interface Examined {
  /** undefined: the state is whole, or the service makes it so by itself. */
  readonly report: StateReport | undefined;
  /** When it is whole. */
  readonly state: State | undefined;
  /** What earlier damage left behind, names in the state folder. */
  readonly aside: readonly string[];
}

/** What `restore` and `repair` give, and what they lose. */
export interface WayOut {
  readonly rows: Rows;
  /** A line for each row that it lacks or has as it was before. */
  readonly losses: readonly string[];
}

/** After a loss nobody knows which ids were given; so many are left out. */
const idsLeftOut = 1000;

/** Changes no row. @throws StateError when a service has the folder open, or it cannot be read */
export async function examineState(folder: string): Promise<Examined> {
  try {
    const aside = (await readdir(folder)).filter((name) => /\.(damaged|before|aside)/.test(name));
    const { format } = await readFormat(folder);
    const look = await lookAt(folder, format?.id);
    await look.level?.close();
    const level = look.level ? look.found.level : await repairCopy(folder);
    const old = format === undefined && look.found.journals.length === 0;
    const verdict = judge({ ...look.found, level: old ? unmarkedAsRows(level) : level });
    if (look.before && verdict.state) await rm(look.before, { recursive: true });
    return { report: verdict.report, state: verdict.state, aside };
  } catch (error) {
    throw stateErrorOf(folder, error) ?? error;
  }
}

/** What LevelDB's own repair finds in a database that cannot be opened, done to a copy of it. */
async function repairCopy(folder: string): Promise<LevelCopy | undefined> {
  const copy = join(folder, 'db.repaired');
  await rm(copy, { recursive: true, force: true });
  try {
    await cp(levelFolder(folder), copy, { recursive: true });
    await surviveLevel('repair', copy);
    const level = await Level.open(copy);
    return await level.read().finally(() => level.close());
  } catch (error) {
    if (!/ENOENT|LevelDB ends with/.test(wordsOf(error))) throw error;
    return undefined; // there is no database at all, or none that can be read
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/** Rows of a version before this one have no checks: they can be read, and nothing proves them. */
function unmarkedAsRows(level: LevelCopy | undefined): LevelCopy | undefined {
  if (level === undefined) return undefined;
  for (const [key, text] of level.unmarked) level.rows.put(makeRow(key, 1, text));
  return level;
}

/** The newest state that a digest proves. */
export function restoreWay({ proven, readable }: StateReport): WayOut | undefined {
  return proven && { rows: proven.rows, losses: losses(proven.rows, readable) };
}

/** All that can be read. A row that was deleted may be there again. */
export function repairWay({ readable, proven }: StateReport): WayOut {
  return { rows: readable, losses: proven ? losses(readable, proven.rows) : [] };
}

/** Takes the rows for those of the state from now on. What was there before is set aside by the next opening, which this does.
 *  Durable when it resolves; a power cut leaves the state as it was, or as it is to be. */
export async function takeRows({ folder, log }: StateFolders, report: StateReport, rows: Rows): Promise<void> {
  const { format } = await readFormat(folder);
  const { id } = format ?? newFormat();
  const seq = report.newest + 1;
  const kept = rows.copy();
  for (const row of countersBeyond(kept)) kept.put(makeRow(row.key, seq, JSON.stringify({ v: 1, next: row.next })));
  const path = journalFolder(folder);
  const next = Math.max(0, ...(await journalNumbers(path))) + 1;
  const journal = await Journal.create(path, next, kept, { id, seq, digest: kept.digest });
  await journal.close();
  await syncFolder(folder);
  const opened = await openState({ folder, log });
  await opened.journal.close();
  await opened.level.close();
  await writeFormat(folder, { ...newFormat(), ...format, id, phase: 'kept' }); // last: a service in rescue begins then
}

/** Ids that were given in what is lost are on targets, and must not be given again. */
function countersBeyond(rows: Rows): { readonly key: string; readonly next: number }[] {
  const highest = new Map<string, number>();
  for (const { key } of rows) {
    const [, kind, id] = /^([a-z]+)\/(\d{12})$/.exec(key) ?? [];
    if (kind !== undefined) highest.set(kind, Math.max(highest.get(kind) ?? 0, Number(id) + 1));
  }
  for (const { key, text } of rows.list('counter')) {
    const kind = key.slice('counter/'.length);
    const next = nextId(text);
    if (next !== undefined) highest.set(kind, Math.max(highest.get(kind) ?? 0, next));
  }
  return [...highest].map(([kind, next]) => ({ key: `counter/${kind}`, next: next + idsLeftOut }));
}

/** Sets all of the state aside and begins as a new appliance. The key stays, so that own backups stay own ones.
 *  @returns the folder that holds what was there */
export async function beginAnew({ folder, log }: StateFolders): Promise<string> {
  const aside = `state.aside-${asideTime()}`;
  await mkdir(join(folder, aside), { mode: 0o700 });
  const names = [...(await tracesIn(folder)), 'db', 'db.before'].filter((name) => name !== 'secret.key');
  // format.json last: until then it is told as damaged, and this can be asked for again.
  for (const name of [...new Set(names)].sort((a, b) => Number(a === 'format.json') - Number(b === 'format.json')))
    await rename(join(folder, name), join(folder, aside, name)).catch((error: unknown) => {
      if (!/ENOENT/.test(wordsOf(error))) throw error;
    });
  await syncFolder(join(folder, aside));
  await writeFormat(folder, newFormat());
  await syncFolder(folder);
  const opened = await openState({ folder, log });
  await opened.journal.close();
  await opened.level.close();
  return aside;
}
