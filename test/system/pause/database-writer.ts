/** A bank in SQLite. Each transfer between random accounts is a transaction. Right after the commit, its number is acknowledged in another
 *  file. */
import { randomFillSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const accounts = 20_000;
const opening = 1_000_000;

/** Bytes beside the database that never change. So a level with the whole database is still small. */
export async function fillBank(data: string): Promise<void> {
  await writeFile(join(data, 'still'), randomFillSync(Buffer.alloc(24e6)));
}

/** WAL mode with an fsync for each commit before its acknowledgement, as fast as the machine can. Each commit changes the index on the
 *  balance. Checkpoints come often, so that the main file changes while a reader reads it, too. */
export const databaseWriter = `
import os, random, sqlite3
db = sqlite3.connect('/data/bank.db', isolation_level=None)
db.execute('PRAGMA journal_mode = WAL')
db.execute('PRAGMA synchronous = FULL')
db.execute('PRAGMA wal_autocheckpoint = 100')
db.execute('BEGIN')
db.execute('CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note BLOB)')
db.execute('CREATE INDEX by_balance ON account (balance)')
db.execute('CREATE TABLE transfer (id INTEGER PRIMARY KEY, payer INTEGER, payee INTEGER, amount INTEGER)')
for n in range(1, ${accounts} + 1):
    db.execute('INSERT INTO account VALUES (?, ${opening}, ?)', (n, os.urandom(100)))
db.execute('COMMIT')
acknowledged = os.open('/data/acknowledged', os.O_CREAT | os.O_WRONLY)
number = 0
while True:
    number += 1
    payer, payee = random.sample(range(1, ${accounts} + 1), 2)
    amount = random.randint(1, 1000)
    db.execute('BEGIN IMMEDIATE')
    db.execute('UPDATE account SET balance = balance - ? WHERE id = ?', (amount, payer))
    db.execute('UPDATE account SET balance = balance + ? WHERE id = ?', (amount, payee))
    db.execute('INSERT INTO transfer VALUES (?, ?, ?, ?)', (number, payer, payee, amount))
    db.execute('COMMIT')
    os.pwrite(acknowledged, b'%020d' % number, 0)
`;

/** Number of the last acknowledged transaction; 0 before the first. */
export async function acknowledged(data: string): Promise<number> {
  return Number(await readFile(join(data, 'acknowledged'), 'utf8').catch(() => '0'));
}
