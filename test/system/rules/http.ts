/** Rules of every request: slashes, bodies, methods, ids, errors, logins. And the routes beside the jobs. */

import { isBody, part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { backupBody, idOf, list, targetBody } from '../bed/request-bodies.js';
import { account } from './curl.js';
import type { Rules } from './rules.js';

interface DescribedRoute {
  readonly method: string;
  readonly path: string;
  readonly open: boolean;
  /** The event stream, which ends only when the client closes it. */
  readonly isEndless: boolean;
}

/** Every route of the description, with ids that exist. */
async function routes(a: Appliance, ids: Readonly<Record<string, string>>): Promise<DescribedRoute[]> {
  const paths = part(await a.service.call('GET', '/openapi.json'), 'paths');
  return Object.entries(isBody(paths) ? paths : {}).flatMap(([path, operations]) =>
    Object.entries(isBody(operations) ? operations : {}).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path: path.replace('/api/v1', '').replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? name),
      open: list(part(operation, 'security')).length === 0,
      isEndless: part(part(part(part(operation, 'responses'), '200'), 'content'), 'text/event-stream') !== undefined,
    })),
  );
}

export const requestRules: Rules = {
  'a trailing slash is optional on every route': async (t, { a, curl }) => {
    const { id } = await a.service.call('POST', '/backup', backupBody()).then((json) => ({ id: String(idOf(json)) }));
    const target = await a.service.call('POST', '/target', targetBody());
    const gets = (await routes(a, { id, path: 'test', run: 'no-run' })).filter(
      ({ method, path, isEndless }) => method === 'GET' && !/z$/.test(path) && !isEndless,
    );
    t.ok(gets.length > 10, `${gets.length} routes that GET`);
    await curl.ask('GET', '/backup/progress'); // takes the report of the runs that have ended
    for (const { path } of gets) {
      const bare = await curl.ask('GET', path.replace(/\/$/, ''));
      const slashed = await curl.ask('GET', `${path.replace(/\/$/, '')}/`);
      t.same([slashed.status, slashed.text], [bare.status, bare.text], path);
    }
    for (const path of [`/backup/${id}/`, `/backup/${id}`])
      t.match(await curl.ask('PUT', path, { body: '{"retention":4}' }), { status: 200 });
    for (const path of [`/backup/${id}/stop/`, `/backup/${id}/stop`]) t.match(await curl.ask('PUT', path), { status: 200 });
    t.equal((await curl.ask('DELETE', `/target/${idOf(target)}/`)).text, `[${idOf(target)}]`);
    t.equal((await curl.ask('DELETE', `/backup/${id}/`)).text, `[${id}]`);
  },

  'a body is parsed as JSON with any Content-Type, and any Accept gets an answer': async (t, { curl }) => {
    const types = ['application/json', 'text/plain', 'application/xml', 'multipart/form-data; boundary=x', 'nonsense', ''];
    for (const type of types) {
      const told = await curl.ask('POST', '/target/', { body: JSON.stringify(targetBody()), headers: [`Content-Type: ${type}`] });
      t.match(told, { status: 200, json: { name: 'testsite' } }, type || 'no type at all');
      await curl.ask('DELETE', `/target/${idOf(told.json)}`);
    }
    for (const accept of ['text/html', 'image/*', 'application/problem+json', 'nonsense'])
      t.match(await curl.ask('GET', '/backup/', { headers: [`Accept: ${accept}`] }), { status: 200, json: [] }, accept);
  },

  'a wrong method gets 405 with the allowed methods': async (t, { curl }) => {
    const allowed = { '/backup/': 'GET, HEAD, POST', '/backup/1/run': 'PUT', '/restore/1': 'DELETE, GET, HEAD', '/login': 'POST' };
    for (const [path, allow] of Object.entries(allowed)) {
      const told = await curl.ask('PATCH', path);
      t.match(told, { status: 405, json: { error: { code: 405, message: /./ } }, headers: { allow: [allow] } }, path);
    }
    t.match(await curl.ask('GET', '/nothing/here'), { status: 404, json: { error: { code: 404 } } });
  },

  'an id is never reused, and an unknown id is not found': async (t, { a, curl }) => {
    for (const [kind, body] of Object.entries({ backup: backupBody(), target: targetBody() })) {
      const first = idOf(await a.service.call('POST', `/${kind}`, body));
      await a.service.call('DELETE', `/${kind}/${first}`);
      const second = idOf(await a.service.call('POST', `/${kind}`, body));
      t.equal(second, first + 1, kind);
      await a.service.call('DELETE', `/${kind}/${second}`);
      for (const id of [first, 'x', '0', '-1', '1.0', '01', '1e3', '9007199254740993', '9'.repeat(400), '%31x', 'null'])
        t.match(await curl.ask('GET', `/${kind}/${id}`), { status: 404, json: { error: { code: 404 } } }, `/${kind}/${id}`.slice(0, 40));
    }
  },

  'an error has its status in the body, and details as application/problem+json': async (t, { curl }) => {
    const plain = await curl.ask('POST', '/backup/', { body: JSON.stringify(backupBody({ shedule: 1 })) });
    t.strictSame(plain.json, { error: { code: 400, message: 'Bad Request: /shedule is not a known key' } });
    t.equal(plain.status, 400);
    const rich = await curl.ask('POST', '/backup/', {
      body: JSON.stringify(backupBody({ shedule: 1 })),
      headers: ['Accept: application/problem+json'],
    });
    t.match(rich.headers['content-type'], [/^application\/problem\+json/]);
    t.strictSame(rich.json, {
      detail: '/shedule is not a known key',
      errors: [{ pointer: '/shedule', reason: 'is not a known key' }],
      fix: 'Correct the fields that the answer names.',
      retryable: false,
      status: 400,
      title: 'Bad Request',
      type: 'urn:container-backup:error:validation',
    });
  },

  'an edit with an old ETag is refused': async (t, { a, curl }) => {
    for (const [kind, body] of Object.entries({ backup: backupBody(), target: targetBody() })) {
      const id = idOf(await a.service.call('POST', `/${kind}`, body));
      const [tag = ''] = (await curl.ask('GET', `/${kind}/${id}`)).headers.etag ?? [];
      t.match(tag, /^"[\w-]+"$/, kind);
      const edit = (tags: string) => curl.ask('PUT', `/${kind}/${id}`, { body: '{}', headers: [`If-Match: ${tags}`] });
      t.match(await edit(`"other", ${tag}`), { status: 200 });
      t.match(await edit('*'), { status: 200 });
      await a.service.call('PUT', `/${kind}/${id}`, kind === 'backup' ? { retention: 9 } : { desc: 'another' });
      t.match(await edit(tag), { status: 412, json: { error: { code: 412, message: /changed meanwhile/ } } });
      await a.service.call('DELETE', `/${kind}/${id}`);
    }
  },

  'every route needs a session, as a cookie or as a bearer token': async (t, { a, curl }) => {
    for (const { method, path, open } of await routes(a, { id: '1', path: 'test', run: 'x' })) {
      if (open) continue;
      t.match(await curl.ask(method, path, { stranger: true }), { status: 401, json: { error: { code: 401 } } }, `${method} ${path}`);
    }
    const login = await curl.ask('POST', '/login', { body: JSON.stringify(account), stranger: true });
    t.match(login.json, { anonymous: false, isAdmin: true, logintime: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/, username: 'admin' });
    const [cookie = ''] = login.headers['set-cookie'] ?? [];
    t.match(cookie, /samesite=strict/i);
    t.match(cookie, /httponly/i);
    const token = /^session=([^;]+)/.exec(cookie)?.[1];
    const bearer = { stranger: true, headers: [`Authorization: Bearer ${token}`] };
    t.match(await curl.ask('GET', '/login_refresh', bearer), { status: 200, json: { username: 'admin' } });
    t.match(await curl.ask('PUT', '/logout', bearer), { status: 200 });
    t.match(await curl.ask('GET', '/backup/', bearer), { status: 401 }, 'a session that was logged out is over');
    t.match(await curl.ask('GET', '/backup/', { stranger: true, headers: ['Cookie: session=forged'] }), { status: 401 });
    t.match(await curl.ask('POST', '/login', { body: 'username=admin&password=wrong', stranger: true }), { status: 401 });
  },

  'a request of another site that changes something is refused': async (t, { a, curl }) => {
    const host = new URL(a.service.address).host;
    const send = (method: string, header: string) =>
      curl.ask(method, '/preference/', { headers: [header], body: '{"backup_concurrent":2}' });
    for (const header of ['Sec-Fetch-Site: cross-site', 'Origin: http://evil.example', 'Origin: null', `Origin: http://${host}0`])
      t.match(await send('PUT', header), { status: 403, json: { error: { code: 403 } } }, header);
    for (const header of [`Origin: http://${host}`, 'Sec-Fetch-Site: same-origin', 'Sec-Fetch-Site: none'])
      t.match(await send('PUT', header), { status: 200 }, header);
    t.match(await curl.ask('GET', '/backup/', { headers: ['Sec-Fetch-Site: cross-site'] }), { status: 200 }, 'looking is no change');
  },

  'the routes of containers, system, plugins, preferences and health answer': async (t, { a, curl }) => {
    const named = (name: string) => ({ id: name, image: '', name, state: 'running', type: 'lxc' });
    const all = ['other', 'small', 'utest'].map(named);
    t.strictSame((await curl.ask('GET', '/container/')).json, all);
    t.strictSame((await curl.ask('GET', '/container/?type=lxc')).json, all);
    const docker = await curl.ask('GET', '/container/?type=docker');
    t.ok(docker.status === 503 || docker.text === '[]', 'an engine that is away holds none or is told to be away');
    const system = {
      cpu_core: /^\d+$/,
      cpu_thread: /^\d+$/,
      hostname: /./,
      machine: /./,
      processor: /./,
      version: { lxc_version: /^\d/, web: '' },
    };
    t.match((await curl.ask('GET', '/system/')).json, system);
    t.ok(
      list((await curl.ask('GET', '/plugin/')).json).some((one) => part(one, 'id') === 'local'),
      'plugins are listed',
    );
    t.strictSame((await curl.ask('PUT', '/preference/', { body: '{"backup_concurrent":3}' })).json, { backup_concurrent: 3 });
    t.strictSame((await curl.ask('GET', '/preference/')).json, { backup_concurrent: 3 });
    await curl.ask('PUT', '/preference/', { body: '{"backup_concurrent":2}' });
    for (const path of ['/healthz', '/readyz']) t.equal((await fetch(`${a.service.address}${path}`)).status, 200, path);
  },
};
