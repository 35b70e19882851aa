/** The history of ended runs: what a power cut leaves of it, and how many runs are kept. */
import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { HistoryRow } from '../../core/jobs/job.js';
import { openHistory } from '../../core/store/history.js';

const row = (began: number): Omit<HistoryRow, 'id'> => ({
  ...({ kind: 'backup', location: { target: 'local', path: '/test/b' }, reason: 'due', result: 0 } as const),
  ...{ job: 1, job_name: 'web', type: 'lxc', container: 'web', began, ended: began + 5, attempt: 1, run: 'r' },
});

async function bed(t: { teardown(end: () => Promise<void>): void }) {
  const state = await mkdtemp(join(tmpdir(), 'history-'));
  t.teardown(() => rm(state, { recursive: true, force: true }));
  const said: string[] = [];
  const folder = join(state, 'history');
  return { folder, file: join(folder, 'backup-1.jsonl'), said, open: () => openHistory(folder, (_, message) => said.push(message)) };
}

t.test('rows come back, the newest first, after a new start too', async (t) => {
  const { folder, open } = await bed(t);
  const history = open();
  t.same(await history.list('backup', 1, { limit: 5 }), [], 'none yet, and no folder');
  await Promise.all([1, 2, 3].map((began) => history.append(row(began))));
  t.equal((await stat(folder)).mode & 0o777, 0o700);
  const again = open();
  t.equal((await again.append(row(4))).id, 4, 'ids go on');
  t.same(
    (await again.list('backup', 1, { limit: 2 })).map(({ id }) => id),
    [4, 3],
  );
  t.same(
    (await again.list('backup', 1, { limit: 9, before: 3 })).map(({ id }) => id),
    [2, 1],
  );
  t.same(await again.list('restore', 1, { limit: 9 }), [], 'a kind has its own ids');
  await again.delete('backup', 1);
  t.same(await readdir(folder), []);
});

t.test('a line that a power cut left half written costs only itself', async (t) => {
  const { file, said, open } = await bed(t);
  await open().append(row(1));
  await appendFile(file, '\n{"id":2,"kind":"backup","jo');
  const history = open();
  t.equal((await history.append(row(3))).id, 2);
  t.same(
    (await history.list('backup', 1, { limit: 9 })).map(({ began }) => began),
    [3, 1],
  );
  t.match(said.join(), /1 lines of the history are damaged/);
});

t.test('only the newest 1,000 are kept, and the file stays short', async (t) => {
  const { file, open } = await bed(t);
  await open().append(row(1));
  const lines = Array.from({ length: 1_998 }, (_, n) => JSON.stringify({ ...row(n + 2), id: n + 2 }));
  await writeFile(file, `${JSON.stringify({ ...row(1), id: 1 })}\n${lines.join('\n')}\n`);
  const history = open();
  t.equal((await history.list('backup', 1, { limit: 5_000 })).length, 1_000);
  t.equal((await history.append(row(2_000))).id, 2_000);
  const kept = (await readFile(file, 'utf8')).trim().split('\n');
  t.equal(kept.length, 1_000);
  t.equal((await history.append(row(2_001))).id, 2_001, 'ids go on');
  t.match((await history.list('backup', 1, { limit: 1 }))[0], { began: 2_001 });
});
