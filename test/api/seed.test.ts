/** The captured conversation: every answer by key, value and order. */
import t from 'tap';
import { someRun, startIn } from './harness.js';

const site = { base: '/', desc: '', encrypt: false, id: 1, ipaddr: '127.0.0.1:5000', name: 'testsite', username: 'admin' };
const local = {
  at: { repeat: 'daily', start: 60 },
  container_id: 'utest',
  dest: { path: '/test/backup', target: 'local' },
  disable: false,
  features: [],
  id: 1,
  job_name: 'LocalJob',
  retention: 3,
  state: { code: 'init', next_run: '2030-01-02 01:00:00' },
  type: 'lxc',
};
const localBody = { job_name: 'LocalJob', container_id: 'utest', type: 'lxc', dest: local.dest, at: local.at, retention: 3 };
const remote = {
  at: { repeat: 'daily', start: 60, times: 2 },
  container_id: 'utest',
  dest: { path: '/test/backup', profile: 1, target: 'remote' },
  disable: false,
  features: ['compress'],
  id: 2,
  job_name: 'RemoteJob',
  retention: 0,
  state: { code: 'init', next_run: '2030-01-02 01:00:00' },
  type: 'lxc',
};

t.test('targets answer as captured', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const { id: _id, desc: _desc, encrypt: _encrypt, ...body } = site;
  t.equal((await h.ask('POST', '/api/v1/target/', { ...body, password: 'admin' })).text, JSON.stringify(site));
  t.strictSame((await h.ask('GET', '/api/v1/target')).json, [site]);
  t.strictSame((await h.ask('GET', '/api/v1/target/1/')).json, site);
  t.strictSame((await h.ask('GET', '/api/v1/target/1/ping')).json, { alive: false });
  const dirs = await h.ask('GET', '/api/v1/target/1/dirs/');
  t.equal(dirs.status, 503);
  t.strictSame(dirs.json, { error: { code: 503, message: 'Service Unavailable: 127.0.0.1' } });
  t.strictSame((await h.ask('GET', '/api/v1/target/local/dirs/')).json, [{ is_dir: true, name: 'test', type: 'd', write: true }]);
  t.strictSame((await h.ask('GET', '/api/v1/target/local/dirs/test/a%20b')).json, [
    { is_dir: true, name: 'b', type: 'd', write: true },
    { is_dir: true, name: 'container-backup@x', type: 'b', write: true },
  ]);
  t.equal((await h.ask('GET', '/api/v1/target/local/dirs/test%2f..%2fx')).status, 400);
  t.equal((await h.ask('GET', '/api/v1/target/local/dirs/nope')).status, 404);
  t.strictSame((await h.ask('PUT', '/api/v1/target/1', { desc: 'Hello World' })).json, { ...site, desc: 'Hello World' });
  t.equal((await h.store.targets.get(1))?.spec.password, 'admin');
  t.strictSame((await h.ask('DELETE', '/api/v1/target/1')).json, [1]);
  t.equal((await h.ask('GET', '/api/v1/target/1')).status, 404);
});

t.test('the full list of backups asks each engine once', async (t) => {
  const asked: unknown[] = [];
  const h = await startIn({
    listContainers: async (type) => {
      asked.push(type);
      return [{ id: 'utest', name: 'utest', image: '', state: 'running', type: 'lxc' }];
    },
  });
  t.teardown(() => h.close());
  for (const [index, type] of ['lxc', 'lxc', 'docker', 'lxc'].entries())
    await h.ask('POST', '/api/v1/backup', { ...localBody, type, job_name: `J${index}` });
  const { json } = await h.ask('GET', '/api/v1/backup/?view=full');
  t.match(json, [{ container_found: true }, { container_found: true }, { container_found: false }, { container_found: true }]);
  t.strictSame(asked, ['lxc', 'docker']);
});

t.test('backups answer as captured', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const { id: _id, ...siteBody } = site;
  await h.ask('POST', '/api/v1/target/', { ...siteBody, password: 'admin' });
  t.equal((await h.ask('POST', '/api/v1/backup/', localBody)).text, JSON.stringify(local));
  const { id: _, state: _state, disable: _disable, retention: _retention, ...remoteBody } = remote;
  t.equal((await h.ask('POST', '/api/v1/backup/', remoteBody)).text, JSON.stringify(remote));
  t.strictSame((await h.ask('GET', '/api/v1/backup/')).json, [local, remote]);
  t.strictSame((await h.ask('GET', '/api/v1/backup/progress')).json, []);
  t.equal((await h.ask('DELETE', '/api/v1/target/1')).status, 409);
  t.equal((await h.ask('POST', '/api/v1/backup/', { ...localBody, dest: { ...local.dest, path: '/test/backup/' } })).status, 409);
  t.match((await h.ask('PUT', '/api/v1/backup/1/run?view=full')).json, { id: 1, state: { code: 'running', progress: -1 } });
  t.equal((await h.ask('PUT', '/api/v1/backup/1/run')).status, 409);
  t.equal((await h.ask('DELETE', '/api/v1/backup/1')).status, 409);
  t.match((await h.ask('PUT', '/api/v1/backup/1/stop')).json, { state: { code: 'scheduled', result: -2 } });
  const off = await h.ask('PUT', '/api/v1/backup/1', { disable: true });
  t.strictSame(off.json, { ...local, disable: true, state: { code: 'scheduled', result: -2 } });
  t.strictSame((await h.ask('PUT', '/api/v1/backup/1', off.json)).json, off.json, 'what GET told can be put back');
  t.match((await h.ask('GET', '/api/v1/backup/1?view=full')).json, { container_found: true });
  t.match((await h.ask('GET', '/api/v1/backup/1/runs')).json, [{ run: someRun }]);
  t.match((await h.ask('GET', `/api/v1/backup/1/runs/${someRun}`)).json, { run: someRun });
  t.equal((await h.ask('GET', '/api/v1/backup/1/runs/none')).status, 404);
  t.strictSame((await h.ask('DELETE', '/api/v1/backup/1')).json, [1]);
  t.match((await h.ask('POST', '/api/v1/backup/', localBody)).json, { id: 3 }, 'ids are never reused');
});

t.test('restores answer as captured', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const src = { path: '/test/backup', portfolio: '1', target: 'local' };
  const body = { job_name: 'RestoreLocalJob', container_id: 'utest', type: 'lxc', src };
  const told = { container_id: 'utest', disable: false, id: 1, src, state: { code: 'init' }, type: 'lxc' };
  t.equal((await h.ask('POST', '/api/v1/restore/', body)).text, JSON.stringify(told));
  t.strictSame((await h.ask('GET', '/api/v1/restore/')).json, [told]);
  t.match((await h.ask('GET', '/api/v1/restore/1?view=full')).json, { job_name: 'RestoreLocalJob' });
  t.strictSame((await h.ask('PUT', '/api/v1/restore/1/stop')).json, told);
  t.match((await h.ask('POST', '/api/v1/restore/plan', body)).json, { action: 'create' });
  t.match((await h.ask('PUT', '/api/v1/restore/1/run')).json, { state: { code: 'running' } });
  await h.ask('PUT', '/api/v1/restore/1/stop');
  t.strictSame((await h.ask('DELETE', '/api/v1/restore/1')).json, [1]);
});

t.test('progress answers as captured, and the long poll reports each change once', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  const event = { id: 4, type: 'backup' as const, progress: 3 };
  const poll = () => h.ask('GET', '/api/v1/backup/progress?duration=5');
  t.strictSame((await poll()).json, []);
  h.tell(event);
  t.strictSame((await poll()).json, [event]);
  const held = poll();
  setTimeout(() => h.tell({ ...event, progress: 7 }), 200);
  t.strictSame((await held).json, [{ ...event, progress: 7 }]);
  h.tell({ ...event, progress: -1 });
  t.strictSame((await poll()).json, [{ ...event, progress: -1 }]);
  h.tell({ ...event, id: 5 });
  h.tell({ ...event, id: 5, progress: -1 });
  t.strictSame((await poll()).json, [{ ...event, id: 5, progress: -1 }], 'a job between two polls');
  t.strictSame((await poll()).json, []);
});
