/** Which run waits for which: every pair of runs over the locks that they may share. And the service, when a waiting job is
 *  changed or the service closes. */
import { setImmediate as nextTick } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { kinds } from '../../core/jobs/kinds.js';
import { errands, type Lock, locksOf } from '../../core/jobs/schedule/locks.js';
import { createQueue } from '../../core/jobs/schedule/queue.js';
import { backup, bench, remoteTarget, restore, until } from './service-bench.js';

const runs = ['backup', 'restore', 'undo', 'purge'] as const;
type Shared = 'container' | 'record' | 'connection' | 'nothing';

/** The pairs that wait, each in both orders. */
const waits: Readonly<Record<Shared, readonly string[]>> = {
  container: ['backup backup', 'backup restore', 'backup undo', 'restore restore', 'restore undo', 'undo undo'],
  record: ['backup backup', 'backup restore', 'backup purge', 'restore purge', 'purge purge'],
  connection: ['backup backup', 'backup restore', 'backup purge', 'restore restore', 'restore purge', 'purge purge'],
  nothing: [],
};

/** The locks of a run of the first job or the second, which share something. */
function locksFor(run: (typeof runs)[number], n: number, shared: Shared): Lock[] {
  const location = { target: 'remote', path: '/a', profile: shared === 'connection' || shared === 'record' ? 1 : n } as const;
  const record = shared === 'record' ? 'same' : `${n}`;
  const container_id = shared === 'container' ? 'same' : `c${n}`;
  const most = shared === 'connection' ? 1 : undefined;
  if (run === 'backup' || run === 'purge') {
    const row = run === 'purge' ? errands.purge.locks : kinds.backup.locks;
    return locksOf(row, 'backup', backup(record, { container_id, dest: location }), most);
  }
  const row = run === 'undo' ? errands.undo.locks : kinds.restore.locks;
  return locksOf(
    row,
    'restore',
    restore('r', { container_id, src: { ...location, portfolio: record === 'same' ? record : `container-backup@${n}` } }),
    most,
  );
}

const queued = (t: Pick<Test, 'fail'>) =>
  createQueue(
    async () => 10,
    (error) => t.fail(`${error}`),
  );

t.test('every pair of runs waits where the table of locks says so, and nowhere else', async (t) => {
  t.same([...runs].sort(), [...Object.keys(kinds), ...Object.keys(errands)].sort(), 'every kind of run is tried');
  for (const shared of ['container', 'record', 'connection', 'nothing'] as const) {
    for (const first of runs) {
      for (const second of runs) {
        const queue = queued(t);
        const ends: (() => void)[] = [];
        for (const [index, run] of [first, second].entries()) {
          const locks = locksFor(run, index + 1, shared);
          queue.enter({ key: `${index}`, locks: async () => locks, start: () => new Promise<void>((resolve) => ends.push(resolve)) });
        }
        await nextTick();
        const expected = waits[shared].includes(`${first} ${second}`) || waits[shared].includes(`${second} ${first}`);
        t.equal(queue.counts().waiting, expected ? 1 : 0, `${first}, then ${second}, sharing ${shared}`);
        for (let n = 0; n < 2; n++) {
          ends[n]?.();
          await nextTick();
        }
        t.strictSame(queue.counts(), { waiting: 0, running: 0 }, 'and both end');
      }
    }
  }
});

t.test('a restore reads the records that its portfolio may mean', async (t) => {
  const location = { target: 'local', path: '/test/b' } as const;
  const keys = (portfolio?: string) => {
    const src = { ...location, ...(portfolio !== undefined && { portfolio }) };
    const locks = locksOf(kinds.restore.locks, 'restore', restore('r', { src }));
    return locks.filter(({ mode }) => mode === 'read').map(({ key }) => key.replace('record/local/test/b/', ''));
  };
  t.strictSame(keys(), ['*'], 'not told: any');
  t.strictSame(keys('7'), ['*'], 'an id is known to the target alone');
  t.strictSame(keys('2026-11-24_11-19-08'), ['*'], 'and so is the record of a time');
  t.strictSame(keys('web'), ['container-backup@web']);
  t.strictSame(keys('web/2026-11-24_11-19-08'), ['container-backup@web']);
  t.ok(keys('container-backup@web').includes('container-backup@web'));
  const starts = async (path: string) => {
    const queue = queued(t);
    const never = () => new Promise<void>(() => undefined);
    const reads = locksOf(kinds.restore.locks, 'restore', restore('r', { src: { ...location, portfolio: '7' } }));
    const writes = locksOf(kinds.backup.locks, 'backup', backup('w', { container_id: 'c', dest: { ...location, path } }));
    queue.enter({ key: 'restore', locks: async () => reads, start: never });
    queue.enter({ key: 'backup', locks: async () => writes, start: never });
    await nextTick();
    return queue.counts().waiting === 0;
  };
  t.notOk(await starts('/test/b/'), 'a backup into that folder waits');
  t.ok(await starts('/test/b/deeper'), 'one into a folder below does not');
});

t.test(
  'no run overtakes an earlier one that waits for the same lock, but a free connection goes to the next that can use it',
  async (t) => {
    const queue = queued(t);
    const never = () => new Promise<void>(() => undefined);
    const enter = (key: string, ...locks: readonly [string, 'read' | 'write' | 'connection'][]) =>
      queue.enter({ key, locks: async () => locks.map(([name, mode]) => ({ key: name, mode, most: 1 })), start: never });
    enter('reader', ['r', 'read']);
    enter('writer', ['r', 'write'], ['target', 'connection']);
    enter('late reader', ['r', 'read']);
    enter('another', ['target', 'connection']);
    await nextTick();
    t.strictSame(queue.running(), ['reader', 'another']);
  },
);

t.test('a job that is changed while it waits takes the locks of its new settings', async (t) => {
  const { fakes, open } = await bench(t);
  fakes.limit = 1;
  const service = await open();
  const code = async (id: number) => (await service.backup.get(id))?.state.code;
  await service.restore.create(restore('long', { container_id: 'b' }));
  await until(async () => (await service.restore.get(1))?.state.code === 'running');
  await service.backup.create(backup('long 1', { container_id: 'a' }));
  await service.backup.run(1);
  const old = (await service.backup.get(1))?.spec;
  if (!old) throw new Error('there is no backup');
  await service.backup.update(1, { ...old, container_id: 'b' });
  fakes.limit = 3;
  service.limitChanged();
  await service.backup.create(backup('long 2', { container_id: 'other', dest: { target: 'local', path: '/test/elsewhere' } }));
  await service.backup.run(2);
  await until(async () => (await code(2)) === 'running');
  t.equal(await code(1), 'waiting', 'it waits for the container that it is about now');
  await service.backup.update(1, { ...old, container_id: 'c', dest: { target: 'local', path: '/test/free' } });
  await until(async () => (await code(1)) === 'running');
  t.pass('and starts once it is about one that nobody uses');
  await service.close();
});

t.test('a changed connection limit of a target counts for the next starts', async (t) => {
  const { fakes, open } = await bench(t);
  fakes.limit = 4;
  fakes.target = remoteTarget({ connection_limit: 1 });
  const service = await open();
  const running = async () => (await service.backup.list()).filter(({ state }) => state.code === 'running').length;
  for (const id of [1, 2, 3]) {
    await service.backup.create(backup(`long ${id}`, { dest: { target: 'remote', path: '/', profile: 1 } }));
    await service.backup.run(id);
  }
  await until(async () => (await running()) === 1);
  t.equal(service.counts().waiting, 2);
  fakes.target = remoteTarget({ connection_limit: 2 });
  service.targetChanged(1);
  await until(async () => (await running()) === 2);
  t.equal(service.counts().waiting, 1);
  await service.close();
});

const kept = { id: 'A', until: Date.now() + 60_000 };

t.test('an undo that waited drops only the undo that it was called for', async (t) => {
  const { fakes, open } = await bench(t);
  const service = await open();
  const spec = restore('quick', { container_id: 'c' });
  await fakes.restores.create(spec, { code: 'completed', undo: kept });
  await service.backup.create(backup('long', { container_id: 'c' }));
  await service.backup.run(1);
  await until(() => service.counts().running === 1);
  const dropped = service.undo(1, 'drop');
  await until(() => service.counts().waiting === 1);
  await fakes.restores.put({ id: 1, spec, state: { code: 'completed', undo: { ...kept, id: 'B' } } }); // as a run of it does
  await service.backup.stop(1);
  await t.rejects(dropped, { code: 'not_found' });
  t.strictSame(fakes.undone, [], 'the engine was not asked');
  t.equal((await service.restore.get(1))?.state.undo?.id, 'B');
});

t.test('an undo does not overwrite changes made to its restore meanwhile, and closing waits for the undo', async (t) => {
  const { fakes, open } = await bench(t);
  const service = await open();
  await fakes.restores.create(restore('quick', { container_id: 'c' }), { code: 'completed', undo: kept });
  let release = () => {};
  fakes.undoing = new Promise((resolve) => {
    release = resolve;
  });
  const undone = service.undo(1, 'bring-back');
  await until(() => fakes.undone.length === 1);
  t.equal((await service.restore.run(1)).state.code, 'waiting', 'a run waits for it');
  const [second, other] = [service.undo(1, 'drop'), service.purge(7)];
  await t.rejects(other, { code: 'not_found' });
  let closed = false;
  const closing = service.drain().then(() => {
    closed = true;
  });
  await t.rejects(second, { code: 'unavailable', retryable: true }, 'one that waits is answered');
  await t.rejects(service.undo(1, 'drop'), { code: 'unavailable' }, 'as is one that comes then');
  t.notOk(closed, 'the one that runs is waited for');
  release();
  const { state } = await undone;
  t.equal(state.undo, undefined);
  t.equal(state.code, 'waiting', 'and not overwritten');
  await closing;
  await service.close();
});

t.test('a failed purge keeps the job and can be repeated', async (t) => {
  const { fakes, open } = await bench(t);
  const service = await open();
  const spec = backup('long');
  await service.backup.create(spec);
  await service.backup.run(1);
  await until(() => service.counts().running === 1);
  await t.rejects(service.purge(1), { code: 'busy' }, 'not while it runs');
  await service.backup.stop(1);
  await service.restore.create(restore('long', { container_id: 'clone', src: { target: 'local', path: '/test/b', portfolio: 'long' } }));
  await until(() => service.counts().running === 1);
  fakes.purging = () => Promise.reject(new Error('the target is away'));
  const [one, two] = [service.purge(1), service.purge(1)];
  await until(() => service.counts().waiting === 1);
  t.strictSame(fakes.purged, [], 'it waits for the restore that reads the record');
  await t.rejects(service.backup.run(1), { code: 'busy' });
  await t.rejects(service.backup.update(1, spec), { code: 'busy' });
  await t.rejects(service.backup.delete(1), { code: 'busy' });
  await service.restore.stop(1);
  await t.rejects(one, { message: 'the target is away' });
  await t.rejects(two, { message: 'the target is away' }, 'who asks meanwhile joins');
  t.equal((await service.backup.get(1))?.state.code, 'scheduled', 'the job is there');
  fakes.purging = async () => undefined;
  await service.purge(1);
  t.equal(await service.backup.get(1), undefined);
  t.strictSame(fakes.purged, ['long', 'long']);
});
