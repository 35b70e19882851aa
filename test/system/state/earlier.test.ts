/** Firmware falls back to the earlier version. That version reads and writes the rows, and the newer one continues from them. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import t, { type Test } from 'tap';
import { openClock } from '../../../core/jobs/schedule/clock.js';
import { openStore } from '../../../core/store/index.js';
import { backupNamed, contentsOf, makeStateBed, outcomeOf } from './bed.js';

const bed = await makeStateBed(t);
const rowKey = (id: number): string => `backup/${String(id).padStart(12, '0')}`;

/** Writes as the version before: rows of JSON and a counter, and no journal. */
async function asBefore(folder: string, work: (db: ClassicLevel<string, string>) => Promise<void>, { noted = true } = {}): Promise<void> {
  const db = new ClassicLevel<string, string>(join(folder, 'db'), { keyEncoding: 'utf8', valueEncoding: 'utf8' });
  await db.open();
  try {
    await work(db);
  } finally {
    await db.close();
  }
  const before = JSON.stringify({ version: 1, latest: Date.now(), epoch: 0, bases: {} });
  if (noted) await writeFile(join(folder, 'clock.json'), before);
}

/** A state that this version has used. */
async function usedState(t: Test): Promise<string> {
  const { folder, end } = await bed.copy();
  t.teardown(end);
  const clock = await openClock(join(folder, 'clock.json'), () => Date.now());
  await clock.note();
  t.match(JSON.parse(await readFile(join(folder, 'clock.json'), 'utf8')), { version: 1, journal: 1 });
  return folder;
}

const job = (id: number, name: string): string => JSON.stringify({ v: 1, id, spec: backupNamed(name), state: { code: 'scheduled' } });

t.test('the earlier version reads every row of this one', async (t) => {
  const folder = await usedState(t);
  await asBefore(folder, async (db) => {
    const names: unknown[] = [];
    for await (const text of db.values({ gte: 'backup/', lt: 'backup/\uffff' })) names.push(JSON.parse(text).spec.job_name);
    t.equal(names.length, 39);
    t.match(JSON.parse((await db.get('counter/backup')) ?? ''), { v: 1, next: 41 });
    for await (const [key, text] of db.iterator({ gte: 'target/', lt: 'target/\uffff' }))
      t.match(JSON.parse(text), { v: 1, name: 'own' }, key);
  });
});

t.test('this version keeps what the earlier one changed, made and deleted, and reuses no id', async (t) => {
  const folder = await usedState(t);
  const store = await openStore(folder);
  const late = await store.backup.create(backupNamed('late'), { code: 'scheduled' });
  await store.close();
  await asBefore(folder, async (db) => {
    await db.put(rowKey(3), job(3, 'renamed'), { sync: true });
    await db.del(rowKey(4), { sync: true });
    await db.del(rowKey(late.id), { sync: true }); // as in a state from before the update
    await db.batch([
      { type: 'put', key: 'counter/backup', value: JSON.stringify({ v: 1, next: late.id }) },
      { type: 'put', key: rowKey(60), value: job(60, 'made') },
    ]);
  });
  const { kind, told } = await outcomeOf(folder);
  t.equal(kind, 'healed', told.join('\n'));
  t.match(told.join('\n'), /earlier version ran meanwhile/);
  const again = await openStore(folder);
  const names = new Map((await again.backup.list()).map(({ id, spec }) => [id, spec.job_name]));
  t.match([names.get(3), names.get(4), names.get(60), names.get(late.id)], ['renamed', undefined, 'made', undefined]);
  const next = await again.backup.create(backupNamed('next'), { code: 'scheduled' });
  t.ok(next.id > late.id, `${next.id} after ${late.id}`);
  await again.close();
  t.match(await outcomeOf(folder), { kind: 'whole' }, 'and all is whole from then on');
});

t.test('a fallback without writes loses nothing', async (t) => {
  const folder = await usedState(t);
  await asBefore(folder, async () => undefined);
  t.match(await outcomeOf(folder), { kind: 'whole', contents: bed.contents });
});

t.test('rows that changed while this version ran last count as damage', async (t) => {
  const folder = await usedState(t);
  await asBefore(folder, (db) => db.put(rowKey(3), job(3, 'renamed'), { sync: true }), { noted: false });
  const { kind, contents, told } = await outcomeOf(folder);
  t.equal(kind, 'healed', told.join('\n'));
  t.same(contents, bed.contents, 'the journal gives back what was there');
});

t.test('this version opens a state of the earlier one unchanged', async (t) => {
  const { folder, end } = await bed.copy();
  t.teardown(end);
  const store = await openStore(folder);
  const before = await contentsOf(store);
  await store.close();
  for (const name of ['journal', 'format.json', 'reserve']) await rm(join(folder, name), { recursive: true });
  await asBefore(folder, async (db) => {
    for await (const key of db.keys()) if (/^(check|meta|key)\//.test(key)) await db.del(key);
  });
  const adopted = await outcomeOf(folder);
  t.match(adopted, { kind: 'whole', contents: before });
});
