/** Runs in real worker threads: limits, every kind of end, leases, and the state after a restart. */
import t from 'tap';
import { parseOwn } from '../../core/schemas.js';
import { backup, bench, until } from './service-bench.js';

const day = 86_400_000;

t.test('a new job is init, then scheduled, and its run ends with a result', async (t) => {
  const service = await (await bench(t)).open();
  const told: number[] = [];
  service.onProgress(({ progress }) => told.push(progress));
  const made = await service.backup.create(backup('quick'));
  t.equal(made.state.code, 'init');
  t.ok(made.state.next_run);
  await until(async () => (await service.backup.get(1))?.state.code === 'scheduled');
  t.equal((await service.backup.run(1)).state.code, 'waiting');
  await t.rejects(service.backup.run(1), { code: 'busy' });
  await t.rejects(service.backup.delete(1), { code: 'busy' });
  await until(async () => (await service.backup.get(1))?.state.result === 0);
  const state = (await service.backup.get(1))?.state;
  t.match(state, { code: 'scheduled', result: 0, bytes: 5, run: 'run', duration: Number, last_run: Number });
  await until(() => told.at(-1) === -1);
  t.strictSame(told, [10, 50, 99, -1], 'never backwards, at most 99, the end is -1');
  t.strictSame(service.progress(), []);
  await service.backup.delete(1);
  await t.rejects(service.backup.run(1), { code: 'not_found' });
});

t.test('the limit and one run per container hold, and a waiting or running run can be stopped', async (t) => {
  const service = await (await bench(t)).open();
  for (const [name, container_id] of [
    ['a', 'x'],
    ['b', 'x'],
    ['c', 'y'],
    ['d', 'z'],
  ] as const) {
    await service.backup.create(backup(name, { container_id }));
  }
  for (const id of [1, 2, 3, 4]) await service.backup.run(id);
  const codes = async () => (await service.backup.list()).map(({ state }) => state.code);
  await until(async () => (await codes()).filter((code) => code === 'running').length === 2);
  t.strictSame(await codes(), ['running', 'waiting', 'running', 'waiting']);
  t.match((await service.backup.stop(4)).state, { code: 'scheduled', result: -2 }, 'one that waited');
  t.match((await service.backup.stop(1)).state, { code: 'scheduled', result: -2 }, 'one that ran');
  await until(async () => (await codes())[1] === 'running');
  await Promise.all([2, 3].map((id) => service.backup.stop(id)));
  t.strictSame((await service.backup.stop(3)).state.code, 'scheduled', 'nothing to stop is fine');
  t.strictSame(service.counts(), { waiting: 0, running: 0, workers: 0, workerJobs: 0 });
});

t.test('a worker that throws or exits ends its run as crashed', async (t) => {
  const service = await (await bench(t)).open();
  for (const [index, name] of ['throw', 'vanish'].entries()) {
    await service.backup.create(backup(name));
    await service.backup.run(index + 1);
    await until(async () => (await service.backup.get(index + 1))?.state.result !== undefined);
    t.match((await service.backup.get(index + 1))?.state, { code: 'scheduled', result: -1, error: { code: 'crashed' } }, name);
  }
});

t.test('50 runs in a row leave no queue entry and no worker', async (t) => {
  const service = await (await bench(t)).open();
  await service.backup.create(backup('quick'));
  for (let n = 0; n < 50; n++) {
    await service.backup.run(1);
    await until(() => service.counts().running + service.counts().waiting > 0);
    await until(async () => service.counts().running + service.counts().waiting === 0);
  }
  t.strictSame(service.counts(), { waiting: 0, running: 0, workers: 0, workerJobs: 0 });
});

t.test('missed runs are made up by one run soon after the start', async (t) => {
  const { fakes, open } = await bench(t);
  const due = Date.now() - 5 * day;
  await fakes.backups.create(backup('quick'), { code: 'scheduled', next_run: due });
  await fakes.backups.create(backup('quick', { disable: true }), { code: 'scheduled', next_run: due });
  const service = await open();
  await until(async () => (await service.backup.get(1))?.state.result === 0);
  const state = (await service.backup.get(1))?.state;
  t.match(state, { code: 'scheduled', missed: true });
  t.ok((state?.next_run ?? 0) > Date.now(), 'once, however many were missed');
  t.notOk((await service.backup.get(2))?.state.last_run, 'a disabled job is skipped');
});

t.test('a restart after a crash ends interrupted runs and resumes frozen containers', async (t) => {
  const { fakes, open } = await bench(t);
  const restore = { job_name: 'r', container_id: 'quick', type: 'lxc', src: { target: 'local', path: '/test/b' }, disable: false } as const;
  await fakes.backups.create(backup('a'), { code: 'running', next_run: Date.now() + day });
  await fakes.restores.create(restore, { code: 'running' });
  fakes.leases.set('c1', { runtime: 'lxc', container: 'c1', until: Date.now() + day });
  const service = await open();
  t.match((await service.backup.get(1))?.state, { code: 'scheduled', result: -1, error: { code: 'interrupted' } });
  t.match((await service.restore.get(1))?.state, { code: 'completed', result: -1, error: { code: 'interrupted' } });
  t.strictSame([fakes.resumed, fakes.leases.size], [['c1'], 0], 'the frozen container goes on');
  t.equal((await service.restore.create(restore)).state.code, 'init', 'a restore starts at once');
  await until(async () => (await service.restore.get(2))?.state.result === 0);
  t.equal((await service.restore.get(2))?.state.code, 'completed');
  await service.restore.create({ ...restore, disable: true });
  t.equal((await service.restore.get(3))?.state.code, 'init', 'a disabled one waits');
});

t.test('a lease is released by its worker, or by a resume after the worker died', async (t) => {
  const { fakes, open } = await bench(t);
  const service = await open();
  await service.backup.create(backup('lease', { container_id: 'c1' }));
  await service.backup.run(1);
  await until(async () => (await service.backup.get(1))?.state.result !== undefined);
  t.match((await service.backup.get(1))?.state, { result: 0, pause_ms: 6, run: 'lxc/c1' }, 'the answer says which');
  t.strictSame([fakes.resumed, fakes.leases.size], [[], 0], 'released by the worker');
  await service.backup.create(backup('lease die', { container_id: 'c1' }));
  await service.backup.run(2);
  await until(async () => (await service.backup.get(2))?.state.result !== undefined);
  t.strictSame([fakes.resumed, fakes.leases.size], [['c1'], 0], 'resumed after the worker died');
});

t.test('a clock that was set back causes one new base', async (t) => {
  const { fakes, open } = await bench(t);
  const once = async (service: Awaited<ReturnType<typeof open>>) => {
    await service.backup.run(1);
    await until(() => service.counts().running + service.counts().waiting > 0);
    await until(() => service.counts().running + service.counts().waiting === 0);
    return (await service.backup.get(1))?.state.run;
  };
  const first = await open();
  await first.backup.create(backup('quick'));
  t.equal(await once(first), 'run');
  await first.close();
  fakes.offset = -2 * day;
  const second = await open();
  t.equal(await once(second), 'base');
  t.equal(await once(second), 'run');
});

t.test('closing the service interrupts a running job', async (t) => {
  const { open } = await bench(t);
  const service = await open();
  await service.backup.create(backup('long'));
  await service.backup.run(1);
  await until(() => service.progressOf('backup', 1) !== undefined);
  await service.close();
  t.match((await service.backup.get(1))?.state, { code: 'scheduled', result: -1, error: { code: 'interrupted' } });
});

t.test('a message between threads must match its schema', async (t) => {
  const good = { type: 'result', result: 0, conflicts: [{ code: 'a', what: 'b', fix: 'c' }] };
  t.strictSame(parseOwn('worker', good), good);
  for (const wrong of [null, 'done', { type: 'result', result: 1 }, { type: 'progress', progress: '5' }, { type: 'lease', runtime: 'lxc' }])
    t.throws(() => parseOwn('worker', wrong), { code: 'validation' }, JSON.stringify(wrong));
  t.throws(
    () => parseOwn('worker#/$defs/request', { type: 'lease-kept', runtime: 'lxc' }),
    { code: 'validation' },
    'a lease without its end',
  );
  const task = { kind: 'backup', id: 1, spec: backup('web'), environment: {} };
  t.throws(() => parseOwn('backup-task', task), { code: 'validation' }, 'a task that does not say where the state is');
});

t.test('a backup with a retryable error is retried, and the history holds every attempt', async (t) => {
  const { fakes, open } = await bench(t);
  const service = await open();
  const runs: number[] = [];
  service.onEvent((event) => event.type === 'run' && runs.push(event.row.attempt));
  await service.backup.create(backup('away'));
  await until(async () => (await service.backup.get(1))?.state.code === 'scheduled');
  await service.backup.run(1);
  await until(async () => (await service.backup.get(1))?.state.retry?.attempt === 2);
  t.match((await service.backup.get(1))?.state, {
    code: 'scheduled',
    result: -1,
    retry: { attempt: 2, at: Number, reason: 'unavailable' },
  });
  fakes.offset += 60_000; // both attempts are due
  await until(() => runs.length === 2);
  await until(async () => (await service.backup.get(1))?.state.retry?.attempt === 3);
  fakes.offset += 60_000;
  await until(() => runs.length === 3);
  await until(async () => (await service.backup.get(1))?.state.code === 'scheduled');
  t.equal((await service.backup.get(1))?.state.retry, undefined, 'no more than the setting says');
  const rows = await service.history('backup', 1, { limit: 10 });
  t.strictSame(
    rows.map(({ id, attempt, reason }) => ({ id, attempt, reason })),
    [
      { id: 3, attempt: 3, reason: 'retry' },
      { id: 2, attempt: 2, reason: 'retry' },
      { id: 1, attempt: 1, reason: 'asked' },
    ],
  );
  t.match(rows[0], { result: -1, error: { code: 'unavailable' }, job_name: 'away', container: 'away', location: { target: 'local' } });
  t.strictSame(await service.history('backup', 1, { limit: 1, before: 2 }), rows.slice(2), 'a part of it');
  await service.backup.delete(1);
  t.strictSame(await service.history('backup', 1, { limit: 10 }), [], 'it goes with the job');
});
