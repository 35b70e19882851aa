/** Files that change while a level is read are found by their stamps when tar has ended, with the databases that they belong to. */
import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type LevelPlan, type MovedFiles, packLevel, showPath } from '../../core/archive/index.js';
import { folderSource, never, temporary } from '../system/hostile/archive-samples.js';

type Change = (folder: string) => Promise<unknown>;

/** More than tar's pipe and our buffers take, and first in the order in which tar reads. */
async function bigFirst(folder: string): Promise<void> {
  await writeFile(join(folder, '0-big'), randomBytes(8 << 20));
}

/** Packs a folder and lets `change` happen when tar has begun and waits for its reader. */
async function movedIn(t: Test, fill: Change, change: Change, how: Partial<LevelPlan> = {}): Promise<MovedFiles | undefined> {
  const folder = join(await temporary(t), 'source');
  await mkdir(folder);
  await bigFirst(folder);
  await fill(folder);
  await clockPast(folder);
  const plan = {
    source: folderSource(folder),
    compression: 'none',
    snapshot: `${folder}.snar`,
    reference: Date.now(),
    looks: true,
  } as const;
  const { stream, moved } = await packLevel({ ...plan, ...how }, never, () => undefined);
  const chunks = stream[Symbol.asyncIterator]();
  await chunks.next();
  await change(folder);
  while (!(await chunks.next()).done);
  return moved;
}

/** Waits until the coarse clock of the kernel, which stamps files, is past now: then the reference of a level is later than all stamps. */
async function clockPast(folder: string): Promise<void> {
  const from = Date.now();
  for (let probe = 0; probe <= from + 1; ) {
    await writeFile(`${folder}.probe`, '');
    probe = (await stat(`${folder}.probe`)).mtimeMs;
  }
}

const pathsOf = (moved: MovedFiles | undefined): string[] => (moved?.files ?? []).map(({ path }) => path).sort();

t.test('what nobody writes to does not move', async (t) => {
  const fill: Change = (folder) => writeFile(join(folder, 'still'), 'still');
  t.equal(await movedIn(t, fill, async () => undefined), undefined);
  t.equal(await movedIn(t, fill, (folder) => readFile(join(folder, 'still'))), undefined, 'nor what somebody reads');
  const ahead: Change = async (folder) => {
    await fill(folder);
    await utimes(join(folder, 'still'), new Date(), new Date(Date.now() + 3_600_000));
  };
  t.equal(await movedIn(t, ahead, async () => undefined), undefined, 'nor what has a time in the future');
});

t.test('files that change before, while and after tar reads them have moved, and so has what vanishes', async (t) => {
  const fill: Change = async (folder) => {
    for (const name of ['grows', 'goes', 'replaced', 'still', 'line\nend', 'größe']) await writeFile(join(folder, name), name);
    await writeFile(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9])]), '');
  };
  const change: Change = async (folder) => {
    for (const name of ['0-big', 'grows', 'line\nend', 'größe']) await appendFile(join(folder, name), 'more');
    await appendFile(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9])]), 'more');
    await writeFile(join(folder, 'new'), 'new');
    await rename(join(folder, 'new'), join(folder, 'replaced'));
    await rm(join(folder, 'goes'));
  };
  const expected = ['0-big', 'caf\\351', 'goes', 'gr\\303\\266\\303\\237e', 'grows', 'line\\012end', 'replaced'];
  const moved = await movedIn(t, fill, change);
  t.same(pathsOf(moved), expected);
  t.equal(moved?.count, expected.length);
  t.ok(moved?.isStamped);
  t.ok((moved?.bytes ?? 0) > 8 << 20, 'with their bytes');
  t.equal(await movedIn(t, fill, change, { looks: false }), undefined, 'unless nobody looks');
  const late: Change = (folder) => appendFile(join(folder, 'grows'), 'more');
  t.same(pathsOf(await movedIn(t, fill, late, { inPause: true })), ['grows'], 'in a pause as well');
});

t.test('of many files a hundred are named and all are counted', async (t) => {
  const names = Array.from({ length: 300 }, (_, n) => `log-${n}`);
  const fill: Change = async (folder) => {
    for (const name of names) await writeFile(join(folder, name), name);
    await writeFile(join(folder, 'z.aof'), 'redis');
  };
  const change: Change = async (folder) => {
    for (const name of [...names, 'z.aof']) await appendFile(join(folder, name), 'more');
  };
  const moved = await movedIn(t, fill, change);
  t.equal(moved?.count, 301);
  t.equal(moved?.files.length, 100);
  t.same(moved?.files[0], { path: 'z.aof', database: { kind: 'redis', path: 'z.aof' } }, 'that of a database first');
});

t.test('databases are known by their files', async (t) => {
  const sqlite = 'SQLite format 3\0 and its pages';
  const files: Readonly<Record<string, string>> = {
    'app/bank.db': sqlite,
    'app/bank.db-wal': 'log',
    'pg/data/PG_VERSION': '15',
    'pg/data/base/5/PG_VERSION': '15',
    'pg/data/base/5/1259': 'pages',
    'my sql/ibdata1': 'pages',
    'my sql/shop/order.ibd': 'pages',
    'redis/appendonlydir/a.1.incr': 'commands',
    'other/notes-wal': 'no database',
  };
  const fill: Change = async (folder) => {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(join(folder, name, '..'), { recursive: true });
      await writeFile(join(folder, name), text);
    }
  };
  const written = ['app/bank.db-wal', 'pg/data/base/5/1259', 'my sql/shop/order.ibd', 'redis/appendonlydir/a.1.incr', 'other/notes-wal'];
  const moved = await movedIn(t, fill, async (folder) => {
    for (const name of written) await appendFile(join(folder, name), 'more');
  });
  t.same(
    new Map(moved?.files.map(({ path, database }) => [path, database])),
    new Map([
      ['app/bank.db-wal', { kind: 'sqlite', path: 'app/bank.db' }],
      ['pg/data/base/5/1259', { kind: 'postgresql', path: 'pg/data' }],
      ['my sql/shop/order.ibd', { kind: 'mysql', path: 'my sql' }],
      ['redis/appendonlydir/a.1.incr', { kind: 'redis', path: 'redis/appendonlydir/a.1.incr' }],
      ['other/notes-wal', undefined],
    ]),
  );
});

t.test('a name is shown so that a person can read it', async (t) => {
  t.equal(showPath('gr\\303\\266\\303\\237e'), 'größe');
  t.equal(showPath('line\\012end\\\\'), 'line\\012end\\\\', 'without control characters');
  t.equal(showPath('\\342\\200\\256txt.exe'), '\\342\\200\\256txt.exe', 'nor such as turn the direction of the text');
  t.equal(showPath('caf\\351'), 'caf\\351', 'bytes that are no text');
  const long = showPath(`${'a'.repeat(3000)}.db`);
  t.ok(long.length <= 200 && long.endsWith('a.db') && long.includes('…'), 'and not longer than a line or two');
});
