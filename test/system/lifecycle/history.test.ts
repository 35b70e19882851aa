/** Every ended run of a real container is a row of its job's history. A backup whose server is down is retried. */
import t from 'tap';
import { type Body, isBody, notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { startSshd } from '../../support/servers/sshd.js';
import { ballast, ballastFlags, heldChild } from '../bed/held-run.js';

async function historyOf(a: Appliance, path: string): Promise<Body[]> {
  const rows = await a.service.call('GET', `${path}/history`);
  return Array.isArray(rows) ? rows.filter(isBody) : [];
}

/** Waits until the state is as expected. @returns the full state */
async function stateWhen(a: Appliance, path: string, isWanted: (state: Body) => boolean): Promise<Body> {
  for (const end = Date.now() + 60_000; Date.now() < end; ) {
    const state = part(await a.service.call('GET', `${path}?view=full`), 'state');
    if (isBody(state) && isWanted(state)) return state;
  }
  throw new Error(`${path} did not come into the wanted state`);
}

t.test('a backup to a server that is down is retried, and the history holds each attempt', async (t) => {
  const sshd = await startSshd({ user: true });
  t.teardown(() => sshd.stop());
  const a = await makeAppliance(t, { flags: ['--retry-minutes', '0.05,10'] });
  await a.lxc('web');
  const { host, port, user: username, password } = sshd;
  const target = { name: 'nas', ipaddr: `${host}:${port}`, username, password, type: 'sftp', base: sshd.home };
  const profile = Number(part(await a.service.call('POST', '/target', target), 'id'));
  const dest = { target: 'remote', profile, path: '/runs' };
  const backup = await a.service.create('backup', { job_name: 'web', container_id: 'web', type: 'lxc', dest, at: notSoon() });
  const path = `/backup/${backup}`;
  t.match(await a.service.backUp(backup), { result: 0 });
  t.match(await historyOf(a, path), [{ id: 1, reason: 'asked', attempt: 1, result: 0, container: 'web', location: dest, run: String }]);

  await sshd.kill();
  await a.service.call('PUT', `${path}/run`);
  const waiting = await stateWhen(a, path, ({ retry_at }) => retry_at !== undefined);
  t.match(waiting, { code: 'scheduled', result: -1, attempt: 2, reason: 'unavailable', error: { code: 'unavailable' } });
  t.notOk('run' in waiting, 'nothing of the good run before it');
  const again = await stateWhen(a, path, ({ attempt, retry_at }) => attempt === 3 && retry_at !== undefined);
  t.ok(Date.parse(String(again.retry_at)) > Date.now() + 500_000, 'the further one comes later');
  await sshd.start();
  await a.service.call('PUT', `${path}/run`);
  const good = await stateWhen(a, path, ({ code, result }) => code === 'scheduled' && result === 0);
  t.notOk('attempt' in good || 'retry_at' in good, 'a good run ends the attempts');
  const rows = await historyOf(a, path);
  t.match(rows, [
    { id: 4, reason: 'asked', attempt: 1, result: 0 },
    { id: 3, reason: 'retry', attempt: 2, result: -1, error: { code: 'unavailable', message: String, fix: /\.$/ } },
    { id: 2, reason: 'asked', attempt: 1, result: -1, error: { code: 'unavailable' } },
    { id: 1, result: 0 },
  ]);
  const first = await a.service.ask('GET', `${path}/history?limit=2`);
  t.match(String(first.headers.get('link')), /before=3>; rel="next"|before=3&limit=2>; rel="next"|limit=2&before=3>; rel="next"/);
  t.same(await a.service.call('GET', `${path}/history?limit=2&before=3`), rows.slice(2));
  await a.restart({ kill: true });
  t.same(await historyOf(a, path), rows, 'it outlasts a kill');
});

t.test('a run that dies with the service, a stopped run and a restore are rows of the history', async (t) => {
  const a = await makeAppliance(t, { flags: ['--undo-hours', '0', ...ballastFlags] });
  await a.lxc('web');
  const dest = { target: 'local', path: '/test/runs' };
  const backup = await a.service.create('backup', { job_name: 'web', container_id: 'web', type: 'lxc', dest, at: notSoon() });
  const path = `/backup/${backup}`;
  await a.service.backUp(backup);
  await ballast(`${a.lxcPath}/web/rootfs/ballast`);
  const held = heldChild(a.service, 'tar');
  await a.service.call('PUT', `${path}/run`);
  const tar = await held;
  await a.restart({ kill: true });
  tar.release();
  t.match(await stateWhen(a, path, ({ result }) => result !== undefined), { result: -1, error: { code: 'interrupted' } });
  const stopped = heldChild(a.service, 'tar');
  await a.service.call('PUT', `${path}/run`);
  const running = await stateWhen(a, path, ({ code }) => code === 'running');
  t.notOk('error' in running || 'bytes' in running || 'run' in running, 'while it runs, nothing of the one before is shown');
  const child = await stopped;
  await a.service.call('PUT', `${path}/stop`);
  child.release();
  t.match(await historyOf(a, path), [
    { result: -2 },
    { result: -1, reason: 'asked', error: { code: 'interrupted', fix: 'Run the job again.' } },
    { result: 0 },
  ]);
  const src = { ...dest, portfolio: 'web' };
  const restore = await a.service.create('restore', { job_name: 'back', container_id: 'web', type: 'lxc', src });
  await a.service.ended('restore', restore);
  t.match(await historyOf(a, `/restore/${restore}`), [
    { reason: 'asked', result: 0, container: 'web', places: [{ source: 'rootfs', action: 'restore' }] },
  ]);
  t.equal((await a.service.ask('GET', '/backup/99/history')).status, 404);
});
