/** The commands by which a person mends a damaged state. The service runs none of them by itself. */
import { cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder } from '../../primitives/durable.js';
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
  /** undefined: the state is whole, or the service repairs it by itself. */
  readonly report: StateReport | undefined;
  /** The rows, if the state is whole. */
  readonly state: State | undefined;
  /** Files that earlier repairs set aside, names in the state folder. */
  readonly aside: readonly string[];
}

/** The rows after `restore` or `repair`, and what they lose. */
export interface WayOut {
  readonly rows: Rows;
  /** A line for each row that is missing or older. */
  readonly losses: readonly string[];
}

/** Ids to skip after a loss, when it is unknown which ids were given. */
const idsLeftOut = 1000;

/** Reads the state; changes no row. @throws ServiceError when a service has the folder open, or it cannot be read */
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

/** Reads a database that cannot be opened, from a copy that LevelDB's own repair has made openable. */
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
    return undefined; // there is no database, or none that LevelDB survives
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/** Counts rows without checks, those of an earlier version, as readable; nothing proves them. */
function unmarkedAsRows(level: LevelCopy | undefined): LevelCopy | undefined {
  if (level === undefined) return undefined;
  for (const [key, text] of level.unmarked) level.rows.put(makeRow(key, 1, text));
  return level;
}

/** The newest state that a digest proves. */
export function restoreWay({ proven, readable }: StateReport): WayOut | undefined {
  return proven && { rows: proven.rows, losses: losses(proven.rows, readable) };
}

/** Everything readable. Deleted rows may be back. */
export function repairWay({ readable, proven }: StateReport): WayOut {
  return { rows: readable, losses: proven ? losses(readable, proven.rows) : [] };
}

/** Makes `rows` the state: writes them as the newest journal, and opens the state, which sets the old copies aside. Durable when
 *  it resolves; after a power cut the state is the old one or the new one. */
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
  await writeFormat(folder, { ...newFormat(), ...format, id, phase: 'kept' }); // last: a waiting service starts when this file changes
}

/** Counters beyond all known ids: files on targets may use ids of lost rows, so these must not be given again. */
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

/** Sets the whole state aside and starts as a new appliance. The key stays, so that own backups are still recognised.
 *  @returns the folder with the old state */
export async function beginAnew({ folder, log }: StateFolders): Promise<string> {
  const aside = `state.aside-${asideTime()}`;
  await mkdir(join(folder, aside), { mode: 0o700 });
  // the history too: ids count from 1 again, and a new job must not show the runs of an old one
  const names = [...(await tracesIn(folder)), 'db', 'db.before', 'history'].filter((name) => name !== 'secret.key');
  // format.json goes last: until then the state counts as damaged, and the command can be repeated.
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
