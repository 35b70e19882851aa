/** Upkeep of the copies while the service runs: replaces a long journal, and checks the journal. */
import { rm } from 'node:fs/promises';
import { syncFolder } from '../../primitives/durable.js';
import { Journal } from './journal.js';
import { readJournal, type State } from './reading.js';
import { journalFolder } from './state.js';

/** Replaces the journal by a new file; removes the old one once the new one is durable. */
export async function renewJournal(folder: string, old: Journal, { rows, stamp }: State): Promise<Journal> {
  const renewed = await Journal.create(journalFolder(folder), old.number + 1, rows, stamp);
  await syncFolder(folder); // the journal folder itself may be new
  await old.close();
  await rm(old.file, { force: true });
  return renewed;
}

const isSame = (a: State['stamp'] | undefined, b: State['stamp']): boolean => a?.id === b.id && a.seq === b.seq && a.digest === b.digest;

export async function isWholeJournal(journal: Journal, { stamp }: State): Promise<boolean> {
  const copy = await readJournal(journal.file, journal.number, Number.POSITIVE_INFINITY).catch(() => undefined); // the file is missing
  return copy?.whole === true && isSame(copy.stamp, stamp);
}
