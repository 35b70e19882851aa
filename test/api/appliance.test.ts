/** Routes that only an appliance has: their access, their bodies and answers, and 404 elsewhere. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { Updates } from '../../core/api/index.js';
import { sshSwitch } from '../../core/appliance/ssh-access.js';
import { createLog } from '../../core/log.js';
import { errorRows, isErrorCode } from '../../core/primitives/error-rows.js';
import { ServiceError } from '../../core/primitives/service-error.js';
import { part } from '../support/api-client.js';
import { exampleOf, start, startIn } from './harness.js';

const run = promisify(execFile);
const problem = { accept: 'application/problem+json' };
const routes: readonly (readonly [method: string, path: string])[] = [
  ['GET', '/api/v1/update/'],
  ['PUT', '/api/v1/update/bundle'],
  ['DELETE', '/api/v1/update/bundle'],
  ['POST', '/api/v1/update/install'],
  ['POST', '/api/v1/update/reboot'],
  ['GET', '/api/v1/system/ssh'],
  ['PUT', '/api/v1/system/ssh'],
];

/** Answers what it was asked. */
function toldUpdates(): Updates & { readonly asked: unknown[]; fault?: Error } {
  const asked: unknown[] = [];
  const note = async (what: unknown) => {
    if (told.fault) throw told.fault;
    asked.push(what);
  };
  const told: Updates & { readonly asked: unknown[]; fault?: Error } = {
    asked,
    status: async () => exampleOf('update-status'),
    async receive(body, length) {
      const chunks: Buffer[] = [];
      if (!told.fault) for await (const chunk of body()) chunks.push(Buffer.from(chunk));
      await note({ receive: Buffer.concat(chunks).toString(), length });
      return exampleOf('update-bundle', { version: '1' });
    },
    discard: () => note('discard'),
    install: (wishes) => note({ install: wishes }),
    restart: (wishes) => note({ restart: wishes }),
  };
  return told;
}

async function sshIn(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'ssh-switch-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const logged: string[] = [];
  return { folder, logged, ssh: sshSwitch({ folder, log: createLog('debug', (line) => void logged.push(line)) }) };
}

t.test('without the configuration the routes are 404 and not in the description', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  for (const [method, path] of routes) t.equal((await h.ask(method, path)).status, 404, `${method} ${path}`);
  const { json } = await h.ask('GET', '/api/v1/openapi.json');
  for (const key of ['paths', 'tags']) t.notMatch(JSON.stringify(part(json, key)), /update|ssh"/, key);
});

t.test('only an admin may call the routes', async (t) => {
  const { ssh } = await sshIn(t);
  const updates = toldUpdates();
  const h = await start({ updates, ssh });
  t.teardown(() => h.close());
  for (const [method, path] of routes) t.equal((await h.ask(method, path)).status, 401, `${method} ${path}: nobody`);
  await h.store.users.create('guest', 'just looking', false);
  await h.ask('POST', '/api/v1/login', 'username=guest&password=just+looking');
  for (const [method, path] of routes) t.equal((await h.ask(method, path)).status, 403, `${method} ${path}: no admin`);
  t.same(updates.asked, []);
});

t.test('requests reach the update, and its results and error codes come back', async (t) => {
  const updates = toldUpdates();
  const h = await startIn({ updates });
  t.teardown(() => h.close());
  const bytes = { 'content-type': 'application/octet-stream' };
  t.match(await h.ask('GET', '/api/v1/update/'), { status: 200, json: { state: 'idle' } });
  t.match(await h.ask('PUT', '/api/v1/update/bundle', 'the bundle', bytes), { status: 200, json: { version: '1' } });
  t.equal((await h.ask('PUT', '/api/v1/update/bundle', '', bytes)).status, 400, 'of nothing');
  t.match(await h.ask('POST', '/api/v1/update/install'), { status: 202, json: { state: 'idle' } });
  t.equal((await h.ask('POST', '/api/v1/update/install', { force: true, reboot: true })).status, 202);
  t.equal((await h.ask('POST', '/api/v1/update/install?force=1', { reboot: true })).status, 202);
  t.match(await h.ask('POST', '/api/v1/update/reboot'), { status: 202, json: { rebooting: true } });
  t.equal((await h.ask('POST', '/api/v1/update/reboot', { force: true })).status, 202);
  t.equal((await h.ask('POST', '/api/v1/update/reboot?force=yes')).status, 400, 'neither 1 nor true');
  t.equal((await h.ask('DELETE', '/api/v1/update/bundle')).status, 200);
  const plain = { force: false, reboot: false };
  t.same(updates.asked, [
    { receive: 'the bundle', length: 10 },
    ...[{ install: plain }, { install: { force: true, reboot: true } }, { install: { force: true, reboot: true } }],
    ...[{ restart: { force: false } }, { restart: { force: true } }],
    'discard',
  ]);
  for (const body of [{ force: 1 }, { restart: true }, 'nonsense', '[]']) {
    t.equal((await h.ask('POST', '/api/v1/update/install', body)).status, 400, JSON.stringify(body));
    t.equal((await h.ask('POST', '/api/v1/update/reboot', body)).status, 400, JSON.stringify(body));
  }
  const statuses: Record<string, number> = {};
  for (const code of Object.keys(errorRows).filter(isErrorCode)) {
    updates.fault = new ServiceError(code, 'the reason');
    const { status, json } = await h.ask('PUT', '/api/v1/update/bundle', 'the bundle', { ...bytes, ...problem });
    t.match(json, { type: `urn:container-backup:error:${code}`, detail: 'the reason', status });
    statuses[code] = status;
  }
  t.match(statuses, { not_found: 404, busy: 409, no_space: 507, untrusted_bundle: 422, damaged_bundle: 422, incompatible_bundle: 422 });
  t.match(statuses, { downgrade: 409, install_failed: 502, unavailable: 503, stalled: 504, aborted: 503, failed: 502 });
  const { json } = await h.ask('GET', '/api/v1/openapi.json');
  t.match(json, {
    paths: {
      '/api/v1/update/bundle': { put: { requestBody: { content: { 'application/octet-stream': {} } } } },
      '/api/v1/update/install': {
        post: { responses: { 202: {} }, requestBody: { content: { 'application/json': { schema: { $ref: /update-install$/ } } } } },
      },
    },
    components: { schemas: { 'update-install': {}, 'update-reboot': {} } },
  });
});

t.test('SSH is switched on with valid keys only', async (t) => {
  const { folder, logged, ssh } = await sshIn(t);
  const h = await startIn({ ssh });
  t.teardown(() => h.close());
  const keyOf = async (name: string, ...args: readonly string[]) => {
    await run('ssh-keygen', ['-q', '-N', '', '-C', `me@${name}`, '-f', join(tmpdir(), `${name}-${process.pid}`), ...args]);
    const file = join(tmpdir(), `${name}-${process.pid}`);
    const texts = [await readFile(`${file}.pub`, 'utf8'), await readFile(file, 'utf8')] as const;
    for (const one of [file, `${file}.pub`]) await rm(one);
    return texts;
  };
  const [ed, secret] = await keyOf('ed', '-t', 'ed25519');
  const [rsa] = await keyOf('rsa', '-t', 'rsa', '-b', '2048');
  const [weak] = await keyOf('weak', '-t', 'rsa', '-b', '1024');
  const [ec] = await keyOf('ec', '-t', 'ecdsa');
  const put = (body: object) => h.ask('PUT', '/api/v1/system/ssh', body, problem);
  t.same((await h.ask('GET', '/api/v1/system/ssh')).json, { enabled: false, authorized_keys: [] });
  t.match((await put({ enabled: true })).json, { status: 400, errors: [{ pointer: '/authorized_keys', reason: /must hold a key/ }] });
  t.same(await readdir(folder), []);
  const keys = [ed.trim(), rsa.trim(), ec.trim()];
  t.same((await put({ enabled: true, authorized_keys: [ed, rsa, ec, ed] })).json, { enabled: true, authorized_keys: keys });
  t.same((await readdir(folder)).sort(), ['authorized_keys', 'ssh-enabled']);
  t.equal(await readFile(join(folder, 'authorized_keys'), 'utf8'), keys.map((key) => `${key}\n`).join(''));
  for (const name of await readdir(folder)) t.equal((await stat(join(folder, name))).mode & 0o777, 0o600, name);
  await run('ssh-keygen', ['-lf', join(folder, 'authorized_keys')]);
  t.same((await put({ enabled: false })).json, { enabled: false, authorized_keys: keys }, 'off: the keys stay');
  t.same(await readdir(folder), ['authorized_keys']);
  t.same((await put({ enabled: true })).json, { enabled: true, authorized_keys: keys }, 'and on again');
  t.match((await put({ enabled: true, authorized_keys: [] })).status, 400, 'on without a key');
  const wrong: readonly (readonly [what: string, key: string, why: RegExp])[] = [
    ['a private key', secret, /private key/],
    ['a short RSA key', weak, /2048 bits/],
    ['two lines', `${ed}${rsa}`, /one line/],
    ['a command', `command="reboot" ${ed}`, /TYPE KEY COMMENT/],
    ['another type', ed.replace('ssh-ed25519', 'ssh-rsa'), /cut or damaged/],
    ['half a key', ed.slice(0, 40), /cut or damaged/],
    ['DSA', 'ssh-dss AAAAB3NzaC1kc3M=', /TYPE one of/],
    ['text', 'let me in', /TYPE one of/],
    ['a comment with a control character', `${ed.trim()}\u0007`, /TYPE/],
  ];
  for (const [what, key, why] of wrong) {
    const { json } = await put({ enabled: true, authorized_keys: [rsa, key] });
    t.match(json, { status: 400, errors: [{ pointer: '/authorized_keys/1', reason: why }] }, what);
    t.notMatch(JSON.stringify(json), /AAAA|BEGIN/, 'what was sent is not repeated');
  }
  t.match((await put({ authorized_keys: [ed] })).status, 400, 'enabled must be said');
  t.same((await h.ask('GET', '/api/v1/system/ssh')).json, { enabled: true, authorized_keys: keys }, 'nothing has changed');
  await writeFile(join(folder, 'authorized_keys'), '', { mode: 0o644 });
  await chmod(join(folder, 'authorized_keys'), 0o644);
  await put({ enabled: false, authorized_keys: [ed] });
  t.equal((await stat(join(folder, 'authorized_keys'))).mode & 0o777, 0o600, 'a file of others is put right');
  t.notMatch(logged.join(''), /AAAA/, 'no key is in the log');
  t.match(logged.join(''), /SSH is on keys=3/);
});
