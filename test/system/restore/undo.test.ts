/** The undo of a restore over the API: for a day it brings back what the restore replaced. */
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { destroyLxc } from '../../support/lxc.js';

const backup = {
  job_name: 'u',
  container_id: 'undone',
  type: 'lxc',
  dest: { target: 'local', path: '/test/u' },
  at: { repeat: 'daily', start: 60 },
};
const restore = { job_name: 'r', container_id: 'undone', type: 'lxc', src: { target: 'local', path: '/test/u' } };

t.test('a restore in place can be undone, and its undo can be dropped', async (t) => {
  const appliance = await makeAppliance(t);
  const { service, lxcPath } = appliance;
  await appliance.lxc('undone');
  const file = join(lxcPath, 'undone/volumes/data/file');
  const job = await service.create('backup', backup);
  await service.backUp(job);
  await writeFile(file, 'worth keeping after all');
  const id = await service.create('restore', restore);
  const state = await service.ended('restore', id);
  t.equal(await readFile(file, 'utf8'), 'data of undone\n', 'restored');
  const until = Date.parse(String(part(part(state, 'undo'), 'until')));
  t.ok(Math.abs(until - Date.now() - 86_400_000) < 60_000, 'kept for a day');

  const undone = await service.ask('PUT', `/restore/${id}/undo?view=full`);
  t.equal(undone.status, 200, undone.text);
  t.equal(part(part(undone.json, 'state'), 'undo'), undefined);
  t.equal(await readFile(file, 'utf8'), 'worth keeping after all', 'brought back');
  t.equal((await service.ask('PUT', `/restore/${id}/undo`)).status, 404, 'only once');

  await service.call('PUT', `/restore/${id}/run`);
  await service.ended('restore', id);
  t.equal((await service.ask('DELETE', `/restore/${id}/undo`)).status, 200);
  t.equal((await service.ask('PUT', `/restore/${id}/undo`)).status, 404);
  const left = (await readdir(lxcPath, { recursive: true })).filter((name) => name.includes('.container-backup'));
  t.strictSame(left, [], 'nothing is kept any more');
  const containers = await service.call('GET', '/container/?type=lxc');
  t.match(containers, [{ id: 'undone', state: 'running' }]);
});

t.test('a restore that replaced nothing shows no undo, although an earlier run of its job did', async (t) => {
  const appliance = await makeAppliance(t);
  const { service, lxcPath } = appliance;
  await appliance.lxc('undone', { stopped: true });
  await service.backUp(await service.create('backup', backup));
  const id = await service.create('restore', restore);
  t.ok(part(await service.ended('restore', id), 'undo'), 'the container that was replaced is kept');
  await destroyLxc(lxcPath, 'undone');
  await service.call('PUT', `/restore/${id}/run`);
  t.notOk(part(await service.ended('restore', id), 'undo'), 'it is made anew');
  t.equal((await service.ask('PUT', `/restore/${id}/undo`)).status, 404);
});

t.test('an undo survives a restart, and a service without undo keeps nothing', async (t) => {
  const appliance = await makeAppliance(t);
  await appliance.lxc('undone');
  const file = join(appliance.lxcPath, 'undone/volumes/data/file');
  await appliance.service.backUp(await appliance.service.create('backup', backup));
  await writeFile(file, 'changed');
  const id = await appliance.service.create('restore', restore);
  await appliance.service.ended('restore', id);
  await appliance.restart({ kill: true });
  await appliance.service.call('PUT', `/restore/${id}/undo`);
  t.equal(await readFile(file, 'utf8'), 'changed');

  const plain = await makeAppliance(t, { flags: ['--undo-hours', '0'] });
  await plain.lxc('undone');
  await plain.service.backUp(await plain.service.create('backup', backup));
  const other = await plain.service.create('restore', restore);
  t.notOk(part(await plain.service.ended('restore', other), 'undo'));
  t.strictSame((await readdir(plain.lxcPath)).sort(), ['undone']);
});

t.test('the bytes kept for an undo are reported, and deleted with the restore', async (t) => {
  const { service, lxcPath, lxc } = await makeAppliance(t);
  await lxc('freed');
  await writeFile(join(lxcPath, 'freed/volumes/data/large'), 'x'.repeat(3_000_000));
  const wish = { ...backup, job_name: 'f', container_id: 'freed' };
  await service.backUp(await service.create('backup', wish));
  const src = { ...restore.src, portfolio: 'f' };
  const id = await service.create('restore', { ...restore, container_id: 'freed', src });
  await service.ended('restore', id);
  const bytes = part(part(part(await service.call('GET', `/restore/${id}?view=full`), 'state'), 'undo'), 'bytes');
  t.ok(Number(bytes) > 3_000_000, `${bytes} bytes`);
  const kept = async () => (await readdir(lxcPath, { recursive: true })).filter((name) => name.includes('.container-backup'));
  t.ok((await kept()).length > 0);
  t.same(await service.call('DELETE', `/restore/${id}`), [id]);
  t.same(await kept(), [], 'nothing is kept that nobody could name');
});

t.test('a failed restore leaves the undo of the one before it', async (t) => {
  const appliance = await makeAppliance(t);
  const { service, lxcPath } = appliance;
  await appliance.lxc('undone');
  const file = join(lxcPath, 'undone/volumes/data/file');
  const init = join(lxcPath, 'undone/rootfs/sbin/init');
  const job = await service.create('backup', backup);
  const { run } = await service.backUp(job);
  await writeFile(file, 'worth keeping after all');
  const id = await service.create('restore', { ...restore, src: { ...restore.src, portfolio: `u/${run}` } });
  await service.ended('restore', id);

  await rename(init, `${init}-away`); // the container keeps running, but a restore of the next backup cannot start
  await service.backUp(job);
  await rename(`${init}-away`, init);
  const failing = await service.create('restore', { ...restore, job_name: 'fails' });
  t.match(await service.settled('restore', failing), { result: -1, error: { code: 'failed' } });
  t.match(await service.call('GET', '/container/?type=lxc'), [{ id: 'undone', state: 'running' }], 'the container is back');

  t.equal((await service.ask('PUT', `/restore/${id}/undo`)).status, 200);
  t.equal(await readFile(file, 'utf8'), 'worth keeping after all');
});
