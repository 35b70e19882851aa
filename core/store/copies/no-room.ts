/** A start on a full disk: LevelDB writes when it opens, so it cannot be opened. Until there is room, rows are read from the
 *  journal alone, and nothing is written. */

import { ServiceError } from '../../primitives/service-error.js';
import { freeBytes } from '../failure.js';
import { ranEarlier } from './adoption.js';
import { readFormat } from './format.js';
import { Journal } from './journal.js';
import type { State } from './reading.js';
import { journalFolder, type OpenedState, openState, readJournals, type StateFolders } from './state.js';

/** `level` is undefined until there is room to open it. */
export type ReadState = Omit<OpenedState, 'level'> & Partial<Pick<OpenedState, 'level'>>;

/** The rows that the journal proves. The journal has each write before the database, unless an earlier version ran.
 *  @throws ServiceError when the journal proves nothing; then only the database could tell */
export async function openByJournal({ folder, log }: StateFolders): Promise<ReadState> {
  const { format } = await readFormat(folder);
  const [newest] = (await readJournals(folder, Number.POSITIVE_INFINITY)).copies;
  const isProven = newest?.whole && newest.stamp?.id === format?.id && format?.phase === 'kept' && !(await ranEarlier(folder));
  if (!newest?.stamp || !isProven) {
    const message = `there is no room in the state folder ${folder}: ${await freeBytes(folder)} bytes are free; free some space there`;
    throw new ServiceError('no_space', message);
  }
  log('warn', `there is no room in ${folder}: rows are read from the journal, and nothing is written until there is room`);
  const { rows, stamp, number, bytes } = newest;
  return { rows, stamp, journal: await Journal.goOn(journalFolder(folder), number, bytes, rows) };
}

/** Opens both copies once there is room, and repairs them as a start does. Closes the journal `old`.
 *  @throws Error when they differ from the rows in memory */
export async function openWithRoom(options: StateFolders, { stamp }: State, old: Journal): Promise<OpenedState> {
  const opened = await openState(options);
  await old.close();
  if (opened.stamp.seq === stamp.seq && opened.stamp.digest === stamp.digest) return opened;
  await opened.journal.close();
  await opened.level.close();
  throw new Error('the database has other writes than the journal that was read on the full disk; start the service again');
}
