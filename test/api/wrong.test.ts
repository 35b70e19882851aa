/** Each field wrong by itself, wrong requests, and requests without the right to make them. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { start, startIn } from './harness.js';

const problem = { accept: 'application/problem+json' };
const backup = {
  job_name: 'J',
  container_id: 'c',
  type: 'lxc',
  dest: { target: 'local', path: '/test/b' },
  at: { repeat: 'daily', start: 60 },
};
const target = { name: 'n', ipaddr: 'h', username: 'u', password: 'p' };
const restore = { job_name: 'R', container_id: 'c', type: 'lxc', src: { target: 'local', path: '/test/b' } };
const at = (value: object) => ({ ...backup, at: value });
const cases: readonly (readonly [path: string, body: object, pointer: string])[] = [
  ...['', '.x', 'a/b', 'a.', 'a ', 'a\u0007', 'a:b', 'x'.repeat(65)].map(
    (job_name) => ['backup', { ...backup, job_name }, '/job_name'] as const,
  ),
  ['backup', { ...backup, shedule: 1 }, '/shedule'],
  ['backup', { ...backup, type: 'vm' }, '/type'],
  ['backup', { ...backup, container_id: '../x' }, '/container_id'],
  ['backup', { ...backup, retention: 1 }, '/retention'],
  ['backup', { ...backup, retention: -1 }, '/retention'],
  ['backup', { ...backup, disable: 'no' }, '/disable'],
  ['backup', { ...backup, features: ['zip'] }, '/features/0'],
  ['backup', { ...backup, dest: { target: 'local', path: '/other/b' } }, '/dest/path'],
  ['backup', { ...backup, dest: { target: 'local', path: '/test/../b' } }, '/dest/path'],
  ['backup', { ...backup, dest: { target: 'local', path: '/test/b', profile: 1 } }, '/dest/profile'],
  ['backup', { ...backup, dest: { target: 'remote', path: '/b' } }, '/dest/profile'],
  ['backup', { ...backup, dest: { target: 'remote', path: '/b', profile: 9 } }, '/dest/profile'],
  ['backup', at({ repeat: 'hourly' }), '/at/repeat'],
  ['backup', at({ repeat: 'daily', start: 86400 }), '/at/start'],
  ['backup', at({ repeat: 'daily', start: 1, times: 25 }), '/at/times'],
  ['backup', at({ repeat: 'daily', start: 1, time: '01:00' }), '/at'],
  ['backup', at({ repeat: 'daily', time: '24:00' }), '/at/time'],
  ['backup', at({ repeat: 'weekly', start: 1, days: [] }), '/at/days'],
  ['backup', at({ repeat: 'weekly', start: 1 }), '/at/days'],
  ['backup', at({ repeat: 'weekly', start: 1, days: [7] }), '/at/days/0'],
  ['backup', at({ repeat: 'monthly', start: 1, days: [0] }), '/at/days/0'],
  ['backup', at({ repeat: 'oneshot', start: 1000 }), '/at/start'],
  ['backup', at({ repeat: 'oneshot' }), '/at/start'],
  ...[
    'h:0',
    'h:99999',
    '-h',
    'u@h',
    'h/x',
    '::1',
    '169.254.1.1',
    '0xa9fe0101',
    '224.0.0.1',
    '[fe80::1]:22',
    '[ff02::1]',
    '[::ffff:169.254.1.1]',
  ].map((ipaddr) => ['target', { ...target, ipaddr }, '/ipaddr'] as const),
  ['target', { ...target, name: '-n' }, '/name'],
  ['target', { ...target, username: 'a\nb' }, '/username'],
  ['target', { ...target, password: 7 }, '/password'],
  ['target', { ...target, base: '/a/../b' }, '/base'],
  ['target', { ...target, encrypt: 1 }, '/encrypt'],
  ['target', { ...target, type: 'lxc' }, '/type'],
  ['restore', { ...restore, src: { target: 'local', path: '/test/b', portfolio: 1 } }, '/src/portfolio'],
  ['restore', { ...restore, job_name: undefined }, '/job_name'],
];

t.test('a wrong field is refused with its pointer', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  for (const [path, body, pointer] of cases) {
    const a = await h.ask('POST', `/api/v1/${path}/`, body, problem);
    t.equal(a.status, 400, `${path} ${pointer} ${JSON.stringify(body)}`);
    t.match(a.json, { type: 'urn:container-backup:error:validation', errors: [{ pointer, reason: /./ }] });
  }
  for (const ipaddr of ['127.0.0.1', 'nas.lan:22', '[::1]:22'])
    t.equal((await h.ask('POST', '/api/v1/target', { ...target, ipaddr })).status, 200);
});

t.test('wrong bodies, paths, methods, tags and origins get their status', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  t.equal((await h.ask('POST', '/api/v1/backup/', 'nonsense')).status, 400);
  t.equal((await h.ask('POST', '/api/v1/backup/', '[]')).status, 400);
  t.equal((await h.ask('POST', '/api/v1/backup/', { ...backup, job_name: 'x'.repeat(300_000) })).status, 413);
  t.equal((await h.ask('GET', '/api/v1/backup/x')).status, 404);
  t.match((await h.ask('GET', '/api/v1/nothing')).json, { error: { code: 404 } });
  const patch = await h.ask('PATCH', '/api/v1/backup/1');
  t.equal(patch.status, 405);
  t.equal(patch.headers.get('allow'), 'DELETE, GET, HEAD, PUT');
  const made = await h.ask('POST', '/api/v1/backup/', backup);
  const tag = made.headers.get('etag') ?? '';
  t.equal((await h.ask('PUT', '/api/v1/backup/1', { disable: true }, { 'if-match': tag })).status, 200);
  t.equal((await h.ask('PUT', '/api/v1/backup/1', { disable: false }, { 'if-match': tag })).status, 412);
  t.equal((await h.ask('PUT', '/api/v1/backup/1', {}, { origin: 'http://evil.example' })).status, 403);
  t.equal((await h.ask('PUT', '/api/v1/backup/1', {}, { 'sec-fetch-site': 'cross-site' })).status, 403);
  t.match((await h.ask('GET', '/api/v1/openapi.json')).json, { openapi: '3.1.0', paths: { '/api/v1/target/{id}/dirs/{path}': {} } });
  for (const path of ['/healthz', '/readyz', '/api/v1/system/', '/api/v1/container/', '/api/v1/plugin/', '/api/v1/preference/']) {
    t.equal((await h.ask('GET', path)).status, 200, path);
  }
  t.match((await h.ask('GET', '/api/v1/container/lxc/utest')).json, { name: 'utest', big_files: [{ cloned: false }] });
  t.match((await h.ask('GET', '/api/v1/container/lxc/nobody/')).json, { error: { code: 404 } });
});

t.test('a request needs a login, a change an admin, and many wrong passwords are limited', async (t) => {
  const h = await start();
  t.teardown(() => h.close());
  t.equal((await h.ask('GET', '/api/v1/backup/')).status, 401);
  const first = { code: 'one-time-code', username: 'admin', password: 'correct horse' };
  t.equal((await h.ask('POST', '/api/v1/setup', { ...first, code: 'x' })).status, 403);
  t.equal((await h.ask('POST', '/api/v1/setup', first)).status, 200);
  await t.rejects(access(join(h.folder, 'setup-code')));
  t.equal((await h.ask('POST', '/api/v1/setup', first)).status, 409);
  const login = await h.ask('POST', '/api/v1/login', { username: 'admin', password: 'correct horse' });
  t.match(login.json, { anonymous: false, isAdmin: true, username: 'admin', logintime: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/ });
  t.match(login.headers.get('set-cookie'), /samesite=strict; httponly/i);
  const token = /session=([^;]+)/.exec(login.headers.get('set-cookie') ?? '')?.[1];
  t.equal((await h.ask('GET', '/api/v1/login_refresh')).status, 200);
  t.equal((await h.ask('GET', '/api/v1/backup/', undefined, { cookie: '', authorization: `Bearer ${token}` })).status, 200);
  t.equal((await h.ask('PUT', '/api/v1/logout')).status, 200);
  t.equal((await h.ask('GET', '/api/v1/backup/')).status, 401);
  await h.store.users.create('guest', 'just looking', false);
  await h.ask('POST', '/api/v1/login', 'username=guest&password=just+looking');
  t.equal((await h.ask('GET', '/api/v1/backup/')).status, 200);
  t.equal((await h.ask('POST', '/api/v1/backup/', backup)).status, 403);
  for (let i = 0; i < 5; i++) t.equal((await h.ask('POST', '/api/v1/login', 'username=admin&password=x')).status, 401);
  t.equal((await h.ask('POST', '/api/v1/login', 'username=admin&password=x')).status, 429);
});
