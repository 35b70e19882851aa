/** Backup jobs: their settings, their answers, and the runs that they keep. */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isBody, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { accepted, allIn, backedUp, backupBody, idOf, list, ranAgain, settledBackup, stateOf } from '../bed/request-bodies.js';
import type { Rules } from './rules.js';

const recordsIn = async (a: Appliance, folder: string) => (await allIn(join(a.share, folder))).filter((path) => !path.includes('/'));

export const backupRules: Rules = {
  'a missing key gets its default, and nothing else is added': async (t, { make, drop }) => {
    const body = backupBody();
    const made = await make(body);
    const { state: _state, id, ...rest } = isBody(made) ? made : {};
    t.strictSame(rest, { ...Object.fromEntries(Object.entries(body).sort()), disable: false, features: [], retention: 0 });
    await drop(Number(id));
  },

  'a job may name a container that does not exist yet, and the full view says whether it exists': async (t, { a, make, drop }) => {
    for (const [container_id, found] of [
      ['small', true],
      ['not-yet', false],
    ] as const) {
      const id = idOf(await make({ container_id }));
      t.equal(part(await a.service.call('GET', `/backup/${id}?view=full`), 'container_found'), found, container_id);
      t.equal(part(await a.service.call('GET', `/backup/${id}`), 'container_found'), undefined);
      await drop(id);
    }
  },

  'a destination has one job of a name': async (t, { ask, make, drop }) => {
    const first = idOf(await make({ job_name: 'Twin' }));
    for (const path of ['/test/jobs', '/test/jobs/'])
      t.match(
        await ask('POST', '/backup', backupBody({ job_name: 'Twin', dest: { target: 'local', path } })),
        { status: 409, json: { error: { message: /Twin/ } } },
        path,
      );
    const other = idOf(await make({ job_name: 'Twin', dest: { target: 'local', path: '/test/elsewhere' } }));
    t.match(await ask('PUT', `/backup/${other}`, { dest: { target: 'local', path: '/test/jobs' } }), { status: 409 }, 'nor by a change');
    for (const id of [first, other]) await drop(id);
  },

  'a feature that is listed twice counts once': async (t, { make, drop }) => {
    const job = await make({ features: ['pause', 'compress', 'pause'] });
    t.strictSame(part(job, 'features'), ['pause', 'compress']);
    await drop(idOf(job));
  },

  'state and id in a body are ignored': async (t, { a, ask, make, drop }) => {
    const job = await make({ id: 77, state: { code: 'completed', result: -1 } });
    t.not(idOf(job), 77);
    t.match(part(job, 'state'), { code: 'init' });
    await accepted(a.service, idOf(job));
    const got = await a.service.call('GET', `/backup/${idOf(job)}?view=full`);
    t.match(await ask('PUT', `/backup/${idOf(job)}`, isBody(got) ? { ...got, state: { code: 'running' }, id: 5 } : {}), {
      status: 200,
      json: { id: idOf(job), state: { code: 'scheduled' } },
    });
    await drop(idOf(job));
  },

  'a disabled job keeps its code, has no next run, and runs on request': async (t, { a, make, drop }) => {
    const job = await make({ container_id: 'small', disable: true });
    t.strictSame(part(job, 'state'), { code: 'init' });
    await accepted(a.service, idOf(job));
    t.strictSame(await stateOf(a.service, 'backup', idOf(job)), { code: 'scheduled' });
    await ranAgain(a.service, idOf(job));
    t.match(Object.keys(await stateOf(a.service, 'backup', idOf(job))), ['code', 'last_run', 'result']);
    t.match(part(await a.service.call('PUT', `/backup/${idOf(job)}`, { disable: false }), 'state'), {
      code: 'scheduled',
      next_run: / 01:00:00$/,
    });
    await drop(idOf(job), '?purge=true');
  },

  'the full view shows the details of the last run, the plain view does not': async (t, { a, drop }) => {
    const { id, run } = await backedUp(a.service, { container_id: 'small', features: ['compress', 'pause'] });
    const plain = await stateOf(a.service, 'backup', id);
    t.same(Object.keys(plain), ['code', 'last_run', 'next_run', 'result']);
    const full = await stateOf(a.service, 'backup', id, '?view=full');
    t.match(full, { ...plain, bytes: Number, duration: Number, pause_ms: Number, run, last_run_at: /T.*Z$/, next_run_at: /T.*Z$/ });
    t.ok(Number(full.bytes) > 0 && Number(full.duration) > Number(full.pause_ms) && Number(full.pause_ms) > 0, JSON.stringify(full));
    await drop(id, '?purge=true');
  },

  'the runs of a job are listed newest first, each with its manifest': async (t, { a, curl, drop }) => {
    const { id, run } = await backedUp(a.service, { job_name: 'Listed', container_id: 'small' });
    const second = await ranAgain(a.service, id);
    const runs = await a.service.call('GET', `/backup/${id}/runs`);
    t.match(runs, [
      { run: second, ok: true },
      { run, ok: true, bytes: Number, stored_bytes: Number, features: [], pause_ms: 0 },
    ]);
    t.equal(list(runs).length, 2);
    const manifest = await a.service.call('GET', `/backup/${id}/runs/${run}`);
    t.match(manifest, { format: 2, run, job: { id, name: 'Listed' }, container: { name: 'small', type: 'lxc' }, result: 0 });
    for (const none of ['2001-01-01_00-00-00', '%2e%2e', '%2e%2e%2f%2e%2e', 'x', `${run}x`])
      t.match(await curl.ask('GET', `/backup/${id}/runs/${none}`), { status: 404 }, none);
    await drop(id, '?purge=true');
  },

  'deleting a job keeps its backups, unless purge is set': async (t, { a, drop }) => {
    const kept = await backedUp(a.service, { job_name: 'Kept', container_id: 'small' });
    t.strictSame(await drop(kept.id), [kept.id]);
    t.ok((await recordsIn(a, 'jobs')).includes('container-backup@Kept'));
    const purged = await backedUp(a.service, { job_name: 'Purged', container_id: 'small' });
    t.strictSame(await drop(purged.id, '?purge=true'), [purged.id]);
    t.notOk((await recordsIn(a, 'jobs')).includes('container-backup@Purged'));
    t.ok((await recordsIn(a, 'jobs')).includes('container-backup@Kept'), 'and no other');
  },

  'a new name or destination moves and deletes nothing': async (t, { a, drop }) => {
    const { id, run } = await backedUp(a.service, {
      job_name: 'Before',
      container_id: 'small',
      dest: { target: 'local', path: '/test/moves' },
    });
    const before = await allIn(join(a.share, 'moves'));
    await a.service.call('PUT', `/backup/${id}`, { job_name: 'After' });
    t.same(await allIn(join(a.share, 'moves')), before);
    const second = await ranAgain(a.service, id);
    t.same(await recordsIn(a, 'moves'), ['container-backup@After', 'container-backup@Before']);
    t.ok((await allIn(join(a.share, 'moves'))).includes(`container-backup@Before/${run}/manifest.json`));
    t.match(await a.service.call('GET', `/backup/${id}/runs`), [{ run: second, ok: true }]);
    await drop(id, '?purge=true');
  },

  'retention keeps the newest complete runs and does not count failed ones': async (t, { a, ask, drop }) => {
    const { id, run: first } = await backedUp(a.service, { container_id: 'small', retention: 2 });
    const second = await ranAgain(a.service, id);
    const volume = join(a.lxcPath, 'small/volumes/data');
    await rename(volume, `${volume}-away`);
    for (let failed = 0; failed < 2; failed++) {
      await a.service.call('PUT', `/backup/${id}/run`);
      t.match(await settledBackup(a.service, id), { result: -1 });
    }
    await rename(`${volume}-away`, volume);
    const names = async () => list(await a.service.call('GET', `/backup/${id}/runs`)).map((one) => part(one, 'run'));
    t.same(await names(), [second, first]);
    const third = await ranAgain(a.service, id);
    t.same(await names(), [third, second]);
    for (const retention of [1, -1]) t.match(await ask('PUT', `/backup/${id}`, { retention }), { status: 400 }, `retention ${retention}`);
    await drop(id, '?purge=true');
  },

  'excluded files are not in the backup, and left_out lists them': async (t, { a, drop }) => {
    const cache = join(a.lxcPath, 'small/volumes/data/cache');
    await mkdir(cache, { recursive: true });
    const { id, run } = await backedUp(a.service, { container_id: 'small', exclude: ['data:/cache'] });
    const manifest = await a.service.call('GET', `/backup/${id}/runs/${run}`);
    t.ok(list(part(manifest, 'left_out')).some((one) => part(one, 'path') === 'data:/cache'));
    await a.service.call('PUT', `/backup/${id}`, { exclude: ['volume:data'] });
    const without = await a.service.call('GET', `/backup/${id}/runs/${await ranAgain(a.service, id)}`);
    t.same(
      list(part(without, 'sources')).map((one) => part(one, 'name')),
      ['rootfs'],
    );
    await rm(cache, { recursive: true });
    await drop(id, '?purge=true');
  },
};
