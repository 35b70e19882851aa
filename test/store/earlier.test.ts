/** An earlier version had one copy of its rows and no format file. The service adopts that state and never overwrites it with a new one. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import t, { type Test } from 'tap';
import { beginAnew, examineState, openStore, repairedWay, takeRows } from '../../core/store/index.js';
import { backupNamed } from '../system/state/bed.js';

/** Writes the rows as that version did: JSON under string keys. */
async function earlierState(t: Test, jobs: number): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'earlier-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const level = new ClassicLevel<string, string>(join(folder, 'db'));
  for (let id = 1; id <= jobs; id++) {
    const row = { v: 1, id, spec: backupNamed(`job-${id}`), state: { code: 'scheduled' } };
    await level.put(`backup/${String(id).padStart(12, '0')}`, JSON.stringify(row));
  }
  await level.put('counter/backup', JSON.stringify({ v: 1, next: jobs + 5 }), { sync: true });
  await level.close();
  await writeFile(join(folder, 'secret.key'), Buffer.alloc(32, 7));
  return folder;
}

const logInto = (told: string[]) => (level: string, message: string) => void told.push(`${level} ${message}`);

t.test('rows, key and ids are adopted', async (t) => {
  const folder = await earlierState(t, 20);
  const told: string[] = [];
  for (const round of [1, 2]) {
    const store = await openStore(folder, { log: logInto(told) });
    t.equal((await store.backup.list()).length, 19 + round, `opening ${round}`);
    t.equal(
      (
        await store.backup.create(
          { ...backupNamed('next'), dest: { target: 'local', path: '/' }, at: { repeat: 'daily' } },
          { code: 'init' },
        )
      ).id,
      24 + round,
    );
    await store.close();
  }
  t.same(told, ['info the state of an earlier version is adopted: 21 rows'], 'told once, and nothing had to be healed');
});

t.test('a database that cannot be opened is not replaced, and repair brings all of it back', async (t) => {
  const folder = await earlierState(t, 20);
  await rm(join(folder, 'db/CURRENT'));
  const before = await readdir(join(folder, 'db'));
  const log = () => undefined;
  for (let n = 0; n < 2; n++) await t.rejects(openStore(folder), { code: 'state_damaged' });
  t.ok(before.every((name) => name !== 'CURRENT'));
  const { report } = await examineState(folder);
  if (!report) throw new Error('it was told as whole');
  await takeRows({ folder, log }, report, repairedWay(report).rows);
  const store = await openStore(folder);
  t.equal((await store.backup.list()).length, 20);
  await store.close();
  t.ok(
    (await readdir(folder)).some((name) => name.startsWith('db.damaged-')),
    'the old one is set aside',
  );
});

t.test('a folder without its database is no new folder', async (t) => {
  const folder = await earlierState(t, 3);
  await rm(join(folder, 'db'), { recursive: true });
  await t.rejects(openStore(folder), { code: 'state_damaged' });
  t.same(await readdir(folder), ['secret.key'], 'nothing was made in it');
  await mkdir(join(folder, 'history'));
  await beginAnew({ folder, log: () => undefined });
  t.notOk((await readdir(folder)).includes('history'), 'a new job of the same id shows no run of the old one');
  const store = await openStore(folder);
  t.same(await store.backup.list(), []);
  await store.close();
});

t.test('a folder without any part of a state is a new one', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'earlier-'));
  t.teardown(() => rm(folder, { recursive: true }));
  for (const name of ['share', 'update', 'lost+found', 'db']) await mkdir(join(folder, name));
  const store = await openStore(folder);
  t.same(await store.backup.list(), []);
  await store.close();
});
