/** A fault ends a run with a code, and with a message that names the cause and what to do. The container is unchanged, and
 *  nothing is left behind. */
import { randomBytes } from 'node:crypto';
import { appendFile, mkdtemp, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeAppliance } from '../../support/appliance.js';
import { destroyLxc, lxc, startLxc, stopLxc } from '../../support/lxc.js';
import { backedUp, ranAgain, restoreBody, restored, settledBackup } from '../bed/request-bodies.js';
import { endlessLoop, local, makeBed, nothing, under } from './bed.js';
import { backupFaults, brokenManifests, damageFaults, type Fault, from, inRecord, restoreFaults } from './tables.js';
import { failedWith, lookAt, unchanged } from './untouched.js';
import { flippedByte, mountedTmpfs, readOnly } from './ways.js';

const bed = await makeBed(t);
const { a, at, own, volume, dockerd, lxcWatched, dockerWatched } = bed;
const random = join(volume, 'random');
const records = { older: '', newer: '', docker: '', plain: 0 };

function faults(title: string, kind: 'backup' | 'restore', cases: () => readonly Fault[]): void {
  t.test(title, async (t) => {
    for (const [title, make, more, code, ...says] of cases()) {
      await t.test(title, async (t) => {
        const watched = more.type === 'docker' ? dockerWatched : lxcWatched;
        const before = await lookAt(watched);
        failedWith(t, await under(bed, make, kind, more), code, says);
        await unchanged(t, watched, before);
      });
    }
  });
}

faults('a backup that cannot begin says why', 'backup', () => backupFaults(bed));

t.test('a container that was deleted after its job was made is not found', async (t) => {
  await a.lxc('leaves', { stopped: true });
  const leave = async () => {
    await destroyLxc(a.lxcPath, 'leaves');
    return nothing;
  };
  failedWith(t, await under(bed, leave, 'backup', { container_id: 'leaves' }), 'not_found', [/\bleaves\b/]);
});

t.test('a full share ends the run with no_space, and keeps the run before it', async (t) => {
  await writeFile(random, randomBytes(12 << 20)); // half of the share's size
  const { id, run } = await backedUp(a.service, { job_name: 'Tight', dest: local('/small') });
  await utimes(random, 1, 1); // so that the next level stores it again
  const before = await lookAt(lxcWatched);
  await a.service.call('PUT', `/backup/${id}/run`);
  failedWith(t, await settledBackup(a.service, id), 'no_space', [/share small/, /Tight/, /free/]);
  await unchanged(t, lxcWatched, before);
  t.match(await a.service.call('GET', `/backup/${id}/runs`), [{ run, ok: true }]);
});

t.test('a read-only share is restored from, and is listed as read-only', async (t) => {
  const back = await readOnly(at('small'));
  try {
    t.match(await restored(a.service, { container_id: 'utest', src: local('/small', 'Tight') }), { result: 0 });
    t.not((await stat(random)).mtimeMs, 1000, 'the file is that of the run');
    t.match(await a.service.call('GET', '/target/local/dirs/'), [{ write: true }, { name: 'small', write: false }, { write: true }]);
  } finally {
    await back();
  }
  await rm(random);
});

t.test('the records of the next tests are made', async () => {
  const dest = local('/test/jobs');
  const plain = await backedUp(a.service, { job_name: 'Plain', dest });
  await appendFile(join(volume, 'file'), 'more\n');
  const newer = await ranAgain(a.service, plain.id);
  await backedUp(a.service, { job_name: 'Zstd', dest, features: ['compress', 'pause'] });
  const docker = await backedUp(a.service, { job_name: 'Docker', dest, type: 'docker', container_id: 'dtest' });
  await backedUp(a.service, { job_name: 'Away', dest: local('/away/x') });
  Object.assign(records, { older: plain.run, newer, docker: docker.run, plain: plain.id });
});

faults('a restore of a damaged record says what is damaged', 'restore', () => damageFaults(bed, records));
faults('a restore that cannot begin says why', 'restore', () => restoreFaults(bed));

t.test('a damaged manifest is reported in the list of runs, in plans and by its name', async (t) => {
  const { older, newer, plain } = records;
  const file = inRecord(bed, 'Plain', `${newer}/manifest.json`);
  for (const [title, make] of Object.entries(brokenManifests(file, newer))) {
    const back = await make();
    const runs = await a.service.ask('GET', `/backup/${plain}/runs`);
    t.match(
      runs.json,
      [
        { run: newer, ok: false, problem: /./ },
        { run: older, ok: true },
      ],
      `${title}: listed`,
    );
    const plan = (portfolio: string) => a.service.ask('POST', '/restore/plan', restoreBody(from(portfolio)));
    const warnings = [{ code: 'run_damaged', count: 1, names: [newer], message: new RegExp(older) }];
    t.match(await plan('Plain'), { status: 200, json: { run: older, warnings } }, `${title}: the older one is taken, and it is said why`);
    t.match(await plan(`Plain/${newer}`), { status: 502, json: { error: { message: /manifest/ } } }, `${title}: not restored by its name`);
    t.match(await plan(`Plain/${older}`), { status: 200, json: { run: older, warnings: [] } }, `${title}: the older one, by its name`);
    await back();
  }
});

t.test('with a damaged newest manifest the older run is restored by its name, and a new backup deletes nothing', async (t) => {
  const { older, newer, plain } = records;
  const back = await flippedByte(inRecord(bed, 'Plain', `${newer}/manifest.json`));
  t.match(await restored(a.service, from(`Plain/${older}`)), { result: 0, run: older });
  t.equal(await readFile(join(volume, 'file'), 'utf8'), 'data of utest\n');
  const third = await ranAgain(a.service, plain);
  await back();
  const all = [third, newer, older].map((run) => ({ run, ok: true }));
  t.match(await a.service.call('GET', `/backup/${plain}/runs`), all);
  t.match(await restored(a.service, from(`Plain/${newer}`)), { result: 0, run: newer }, 'what the damaged one needed is still there');
  t.equal(await readFile(join(volume, 'file'), 'utf8'), 'data of utest\nmore\n');
});

t.test('a volume that another running container uses is not replaced', async (t) => {
  await a.lxc('guest', { lines: [`lxc.mount.entry = ${volume} data2 none bind,create=dir 0 0`] });
  const before = await lookAt(lxcWatched);
  failedWith(t, await under(bed, nothing, 'restore', from('Plain')), 'in_use', [/volumes\/data/, /stop guest/i]);
  await unchanged(t, lxcWatched, before);
  await stopLxc(a.lxcPath, 'guest');
  t.match(await under(bed, nothing, 'restore', from('Plain')), { result: 0 }, 'once it is stopped, as the words say, it works');
  await destroyLxc(a.lxcPath, 'guest');
});

t.test('Docker: a volume that another running container uses is not replaced', async (t) => {
  await dockerd.run('guest', { ...endlessLoop, HostConfig: { NetworkMode: 'none', Binds: ['dvolume:/shared'] } });
  const before = await lookAt(dockerWatched);
  const body = { type: 'docker', ...from('Docker') };
  failedWith(t, await under(bed, nothing, 'restore', body), 'in_use', [/dvolume/, /stop guest/i]);
  await unchanged(t, dockerWatched, before);
  await dockerd.client.json('POST', '/containers/guest/kill');
  t.match(await under(bed, nothing, 'restore', body), { result: 0 }, 'once it is stopped, as the words say, it works');
});

t.test('a restored container that does not start is swapped back for the old one', async (t) => {
  const init = join(own, 'rootfs/sbin/init');
  await stopLxc(a.lxcPath, 'utest');
  await rename(init, `${init}-good`);
  await writeFile(init, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  await backedUp(a.service, { job_name: 'Broken', dest: local('/test/jobs') });
  await rename(`${init}-good`, init);
  await startLxc(a.lxcPath, 'utest');
  const before = await lookAt(lxcWatched);
  const state = await under(bed, nothing, 'restore', from('Broken'));
  failedWith(t, state, 'failed', [/utest/, /stopped right after its start|lxc-start/]);
  await unchanged(t, lxcWatched, before, { restarted: true });
});

t.test('a restore without space makes no container and keeps an existing one', async (t) => {
  const tight = await makeAppliance(t, { shares: { test: at('test') } });
  const unmount = await mountedTmpfs(tight.lxcPath, '5m'); // the container needs 2 MB
  t.teardown(async () => {
    await destroyLxc(tight.lxcPath, 'utest');
    await unmount();
  });
  await tight.lxc('utest');
  await writeFile(join(tight.lxcPath, 'filler'), Buffer.alloc(2 << 20));
  const watched = {
    trees: async () => ({ rootfs: join(tight.lxcPath, 'utest/rootfs'), data: join(tight.lxcPath, 'utest/volumes/data') }),
    told: () => lxc('info', tight.lxcPath, 'utest', '-sH'),
    folders: [tight.lxcPath],
  };
  const before = await lookAt(watched);
  for (const container_id of ['new', 'utest']) {
    const state = await restored(tight.service, { container_id, src: local('/test/jobs', 'Plain') });
    failedWith(t, state, 'no_space', [/to extract \S+\.tar/, /free/i]);
  }
  await unchanged(t, watched, before);
});

t.test('an appliance without the LXC tools says which one is missing', async (t) => {
  const tools = await mkdtemp(join(tmpdir(), 'tools-'));
  t.teardown(() => rm(tools, { recursive: true }));
  for (const folder of ['/usr/sbin', '/usr/bin'])
    for (const name of await readdir(folder))
      if (!name.startsWith('lxc-')) await symlink(join(folder, name), join(tools, name)).catch(() => undefined);
  const bare = await makeAppliance(t, { environment: { PATH: tools } });
  await bare.lxc('utest');
  const id = await backedUp(bare.service).catch((error: unknown) => String(error));
  t.match(id, /"code":"unavailable","message":"lxc-info is not installed on this appliance/);
  t.equal(await lxc('info', bare.lxcPath, 'utest', '-sH'), 'RUNNING');
});
