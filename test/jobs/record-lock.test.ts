/** Several appliances share a record. The one that writes holds a lock file in it. Each lock here belongs to another appliance. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Target } from '../../core/contract/index.js';
import { lockRecord, type RecordLock, type RecordLockOptions } from '../../core/targets/record-lock.js';
import local from '../../plugins/targets/local/index.js';
import { markShare } from '../../plugins/targets/local/marker.js';
import { until } from './service-bench.js';

const record = 'container-backup@web';
const nameOf = (appliance: string, job = 1) => `.container-backup-lock-${appliance}-${job}`;
const signal = new AbortController().signal;
const log = () => undefined;
const minutes = (n: number) => new Date(Date.now() - n * 60_000);

async function bench(t: Pick<Test, 'teardown'>) {
  const root = await mkdtemp(join(tmpdir(), 'record-lock-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await markShare(root);
  const target = await local.open({ log, signal, stateFolder: root, options: { share: 'test', root } });
  const folder = join(root, record);
  const take = (appliance: string, o: Partial<RecordLockOptions> = {}, on: Target = target) =>
    lockRecord(on, record, { appliance, job: 1, signal, log, waits: [], ...o });
  return { root, target, folder, take, there: async () => (await readdir(folder).catch(() => [])).sort() };
}

const release = async (lock: RecordLock) => lock[Symbol.asyncDispose]();

t.test("one appliance at a time holds the lock of a record, and its release removes the lock's files", async (t) => {
  const { root, take, there } = await bench(t);
  const first = await take('one');
  await t.rejects(take('two'), {
    code: 'record_in_use',
    retryable: true,
    message: /another appliance writes to .*web: it has put .*-lock-one-1 there/,
  });
  t.strictSame(await there(), [nameOf('one')], 'the second left nothing');
  await first.check();
  await release(first);
  t.notOk((await readdir(root)).includes(record), 'nor the first');
  const second = await take('two');
  await writeFile(join(root, record, 'image.tar'), 'stored');
  await release(second);
  t.strictSame(await there(), ['image.tar'], 'what was stored stays');
});

t.test('a job recognises its own lock file by the name, not by the content', async (t) => {
  const { folder, take, there } = await bench(t);
  await mkdir(folder);
  await writeFile(join(folder, nameOf('one')), 'cut off by a cra');
  const lock = await take('one');
  t.match(JSON.parse(await readFile(join(folder, nameOf('one')), 'utf8')), { appliance: 'one', job: 1, since: String, refreshed: String });
  await release(lock);
  t.strictSame(await there(), []);
});

t.test('two jobs of one appliance with the same record lock it in turn', async (t) => {
  const { folder, take, there } = await bench(t);
  const first = await take('one');
  await writeFile(join(folder, 'image.tar'), 'stored');
  await t.rejects(take('one', { job: 12 }), { code: 'record_in_use', message: /another job of this appliance .*-lock-one-1 there/ });
  await first.check();
  await release(first);
  const second = await take('one', { job: 12 });
  t.strictSame(await there(), [nameOf('one', 12), 'image.tar']);
  await release(second);
});

t.test('a lock file of the earlier version, without a job, belongs to its appliance only', async (t) => {
  const { folder, take, there } = await bench(t);
  const before = '.container-backup-lock-one';
  await mkdir(folder);
  await writeFile(join(folder, 'image.tar'), 'stored');
  await writeFile(join(folder, before), '');
  await t.rejects(take('two'), { code: 'record_in_use' });
  t.strictSame(await there(), [before, 'image.tar']);
  const lock = await take('one');
  t.strictSame(await there(), [nameOf('one'), 'image.tar']);
  await release(lock);
  t.strictSame(await there(), ['image.tar']);
});

t.test('a lock without a refresh for ten minutes is taken over, and its holder gets record_in_use', async (t) => {
  const { folder, take, there } = await bench(t);
  const first = await take('one');
  await writeFile(join(folder, 'image.tar'), 'stored');
  await utimes(join(folder, nameOf('one')), minutes(9), minutes(9));
  await t.rejects(take('two'), { code: 'record_in_use' }, 'after nine minutes it may still be alive');
  await utimes(join(folder, nameOf('one')), minutes(11), minutes(11));
  const second = await take('two');
  t.strictSame(await there(), [nameOf('two'), 'image.tar']);
  await t.rejects(first.check(), { code: 'record_in_use' });
  t.match(first.lost.reason, { code: 'record_in_use' });
  await release(first);
  t.strictSame(await there(), [nameOf('two'), 'image.tar'], 'it takes nothing away from the second');
  await second.check();
  await release(second);
});

t.test('a held lock is refreshed, a released one is not', async (t) => {
  const { folder, take } = await bench(t);
  const lock = await take('one', { refreshMs: 10 });
  const file = join(folder, nameOf('one'));
  await utimes(file, minutes(11), minutes(11));
  await until(async () => (await stat(file)).mtimeMs > minutes(1).getTime());
  await lock.removeRecord();
  await release(lock);
  await sleep(50); // five times as long as it takes to refresh it
  t.strictSame(await readdir(folder).catch(() => 'gone'), 'gone');
});

t.test('a refresh never restores a lock that another appliance took over', async (t) => {
  const { folder, take, there } = await bench(t);
  const lock = await take('one', { refreshMs: 10 });
  await writeFile(join(folder, 'image.tar'), 'stored');
  await rm(join(folder, nameOf('one')));
  await until(() => lock.lost.aborted);
  await release(lock);
  t.strictSame(await there(), ['image.tar']);
});

t.test('a target without file times counts an old lock as held', async (t) => {
  const { target, folder, take, there } = await bench(t);
  await mkdir(folder);
  await writeFile(join(folder, nameOf('one')), '');
  await utimes(join(folder, nameOf('one')), minutes(60), minutes(60));
  const timeless: Target = {
    supports: target.supports,
    put: (...all) => target.put(...all),
    get: (...all) => target.get(...all),
    stat: (path) => target.stat(path),
    list: (path, { unfinished = false } = {}) => target.list(path, { unfinished }),
    remove: (path) => target.remove(path),
    space: () => target.space(),
    [Symbol.asyncDispose]: async () => undefined,
  };
  await t.rejects(take('two', {}, timeless), { code: 'record_in_use' });
  t.strictSame(await there(), [nameOf('one')]);
});

t.test('three appliances that compete for a lock never hold it together, and each gets it', async (t) => {
  const { take } = await bench(t);
  let holders = 0;
  let held = 0;
  const appliance = async (name: string): Promise<void> => {
    for (let round = 0; round < 10; round++) {
      const lock = await take(name, { waits: Array.from({ length: 60 }, (_, n) => 2 + n) });
      held++;
      t.equal(++holders, 1, `${name}, round ${round}`);
      await sleep(1);
      await lock.check();
      holders--;
      await release(lock);
    }
  };
  await Promise.all(['one', 'two', 'three'].map(appliance));
  t.equal(held, 30);
});

t.test('an abort ends the wait for a lock', async (t) => {
  const { take } = await bench(t);
  const lock = await take('one');
  const stop = new AbortController();
  const waiting = take('two', { waits: [60_000], signal: stop.signal, log: () => stop.abort() }); // told as the wait begins
  await t.rejects(waiting, { code: 'aborted' });
  await release(lock);
});
