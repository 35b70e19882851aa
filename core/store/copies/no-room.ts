/** A start on a disk without any room: LevelDB writes as it opens, and cannot. Until there is room the journal alone gives the rows
 *  to be read, and nothing is written. */

import { freeBytes, StateError } from '../failure.js';
import { ranEarlier } from './adoption.js';
import { readFormat } from './format.js';
import { Journal } from './journal.js';
import type { State } from './reading.js';
import { journalFolder, type OpenedState, openState, readJournals, type StateFolders } from './state.js';

/** `level` undefined: it can be opened only when there is room. */
export type ReadState = Omit<OpenedState, 'level'> & Partial<Pick<OpenedState, 'level'>>;

/** The rows that the journal proves. Each write is in it before it is in the database, unless an earlier version ran.
 *  @throws StateError when the journal proves nothing: then the database is needed */
export async function openByJournal({ folder, log }: StateFolders): Promise<ReadState> {
  const { format } = await readFormat(folder);
  const [newest] = (await readJournals(folder, Number.POSITIVE_INFINITY)).copies;
  const isProven = newest?.whole && newest.stamp?.id === format?.id && format?.phase === 'kept' && !(await ranEarlier(folder));
  if (!newest?.stamp || !isProven) {
    const message = `there is no room in the state folder ${folder}: ${await freeBytes(folder)} bytes are free; free some space there`;
    throw new StateError('no_space', message);
  }
  log('warn', `there is no room in ${folder}: what is there is read from the journal, and nothing is written until there is room`);
  const { rows, stamp, number, bytes } = newest;
  return { rows, stamp, journal: await Journal.goOn(journalFolder(folder), number, bytes, rows) };
}

/** Opens both copies once there is room, and mends them as a start does. @param old its journal is closed
 *  @throws Error when they hold something else than what was read */
export async function openWithRoom(places: StateFolders, { stamp }: State, old: Journal): Promise<OpenedState> {
  const opened = await openState(places);
  await old.close();
  if (opened.stamp.seq === stamp.seq && opened.stamp.digest === stamp.digest) return opened;
  await opened.journal.close();
  await opened.level.close();
  throw new Error('the database knows of other writes than the journal did at the start without room; start the service again');
}
