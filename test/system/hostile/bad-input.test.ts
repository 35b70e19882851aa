/** The service refuses a wrong request with the field and the reason. The request changes nothing, and the service goes on. */
import { request } from 'node:http';
import t, { type Test } from 'tap';
import { type Answer, type Body, isBody, part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { accepted, backupBody, idOf, list, restoreBody, targetBody } from '../bed/request-bodies.js';
import { sentBlindly } from '../rules/blind-client.js';
import { account, curlOf } from '../rules/curl.js';
import * as table from './wrong-values.js';

const a = await makeAppliance(t);
const curl = await curlOf(a);
const problem = { accept: 'application/problem+json' };

/** Everything that a client can make or change. */
async function kept(): Promise<unknown> {
  const paths = ['/target/?view=full', '/backup/?view=full', '/restore/?view=full', '/preference/'];
  return Promise.all(paths.map((path) => a.service.call('GET', path)));
}

/** Asserts status 400 with the field and the reason, in both forms of an error. */
function refused(t: Test, answer: Answer, pointer: string, title: string): void {
  const errors = list(part(answer.json, 'errors'));
  const here = errors.find((one) => part(one, 'pointer') === pointer);
  const told = answer.status === 400 && part(answer.json, 'type') === 'urn:container-backup:error:validation' && here !== undefined;
  if (!told) return void t.fail(`${title}: ${answer.status} ${answer.text}`);
  t.match(here, { pointer, reason: /\w/ }, title);
}

async function alive(t: Test): Promise<void> {
  t.equal((await fetch(`${a.service.address}/healthz`)).status, 200, 'the service lives on');
}

interface Kind {
  readonly title: string;
  readonly good: Body;
  readonly fields: table.Fields;
  readonly more?: readonly (readonly [change: Body, pointer: string])[];
  /** METHOD /path of a request whose body is whole, or holds only the changes. */
  readonly whole: string;
  readonly change?: string;
}

const target = idOf(await a.service.call('POST', '/target', targetBody()));
const backup = await accepted(a.service, idOf(await a.service.call('POST', '/backup', backupBody())));
const times = table.wrongTimes.map(([at, pointer]) => [{ at }, pointer] as const);
const account400 = { username: 'admin', password: 'a long passphrase' };
const kinds: readonly Kind[] = [
  {
    title: 'a target',
    good: targetBody(),
    fields: table.targetFields,
    whole: 'POST /target/',
    change: `PUT /target/${target}`,
  },
  {
    title: 'a backup',
    good: backupBody(),
    fields: table.backupFields,
    more: [...times, ...table.wrongParts],
    whole: 'POST /backup/',
    change: `PUT /backup/${backup}`,
  },
  { title: 'a restore', good: restoreBody(), fields: table.restoreFields, whole: 'POST /restore/' },
  { title: 'a plan of a restore', good: restoreBody(), fields: table.restoreFields, whole: 'POST /restore/plan' },
  { title: 'the first account', good: { code: 'x', ...account400 }, fields: table.setupFields, whole: 'POST /setup' },
  { title: 'preferences', good: { backup_concurrent: 2 }, fields: table.preferenceFields, whole: 'PUT /preference/' },
];

for (const { title, good, fields, more = [], whole, change } of kinds) {
  const cases = [
    ...table.wrongBodies(good, fields),
    ...more.map(([change, pointer]) => ({ title: JSON.stringify(change).slice(0, 80), change, pointer })),
  ];
  t.test(`POST or PUT of ${title} refuses each field wrong in each way`, async (t) => {
    const before = await kept();
    const [method = '', path = ''] = whole.split(' ');
    for (const one of cases) {
      const answer = await a.service.ask(method, path, JSON.stringify({ ...good, ...one.change }), problem);
      refused(t, answer, one.pointer, `${whole} ${one.title}`);
    }
    t.strictSame(await kept(), before, 'nothing came of it');
    await alive(t);
  });

  if (change === undefined) continue;
  t.test(`a change of ${title} refuses each field wrong in each way`, async (t) => {
    const before = await kept();
    const [method = '', path = ''] = change.split(' ');
    // A missing key stays as it is; only inside another one it is required.
    const changes = cases.filter((one) => Object.values(one.change).every((value) => value !== undefined));
    for (const one of changes)
      refused(t, await a.service.ask(method, path, JSON.stringify(one.change), problem), one.pointer, `${change} ${one.title}`);
    t.strictSame(await kept(), before, 'nothing was changed');
    await alive(t);
  });
}

t.test('a login refuses each field wrong in each way, as JSON and as a form', async (t) => {
  for (const { title, change, pointer } of table.wrongBodies(account, table.loginFields)) {
    if (!/^\/(username|password)$/.test(pointer)) continue; // a login form may have other fields, too
    refused(t, await a.service.ask('POST', '/login', JSON.stringify({ ...account, ...change }), problem), pointer, title);
  }
  for (const [form, pointer] of [
    ['username=admin', '/password'],
    ['password=x', '/username'],
    ['', '/username'],
    ['username=&password=x', '/username'],
    ['%%%', '/password'],
  ] as const)
    refused(t, await a.service.ask('POST', '/login', form, problem), pointer, `form ${form}`);
  t.match(await a.service.ask('POST', '/login', account), { status: 200 }, 'and the right one comes in');
  await alive(t);
});

t.test('one answer lists several wrong fields', async (t) => {
  const { json } = await a.service.ask(
    'POST',
    '/backup/',
    JSON.stringify({ ...backupBody(), retention: 1, shedule: 1, at: { repeat: 'hourly' } }),
    problem,
  );
  t.same(
    list(part(json, 'errors'))
      .map((one) => part(one, 'pointer'))
      .sort(),
    ['/at/repeat', '/retention', '/shedule'],
  );
});

const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
const noObjects = [
  '',
  ' ',
  'nonsense',
  '{',
  '{"a":}',
  '{"a":1}x',
  "{'a':1}",
  '[]',
  '[{}]',
  'null',
  'true',
  '7',
  '"text"',
  '{"a":1,}',
  '\u0000',
  'job_name=x&type=lxc',
  `[${'['.repeat(50_000)}`,
];

t.test('a body that is no JSON object is refused', async (t) => {
  const before = await kept();
  const routes = [
    'POST /target/',
    'POST /backup/',
    'POST /restore/',
    'POST /restore/plan',
    'POST /setup',
    'PUT /preference/',
    `PUT /target/${target}`,
    `PUT /backup/${backup}`,
  ];
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ');
    for (const body of noObjects)
      t.match(
        await a.service.ask(method, path, body),
        { status: 400, json: { error: { code: 400, message: /JSON/ } } },
        `${route} ${JSON.stringify(body.slice(0, 20))}`,
      );
  }
  t.strictSame(await kept(), before);
  await alive(t);
});

t.test('a body with __proto__, an empty key or deep nesting is refused', async (t) => {
  const before = await kept();
  const good = JSON.stringify(backupBody()).slice(1);
  const odd = {
    'a prototype': `{"__proto__":{"disable":true},${good}`,
    constructor: `{"constructor":{"prototype":{}},${good}`,
    'a key without a name': `{"":1,${good}`,
  };
  for (const [title, body] of Object.entries(odd))
    t.match(await a.service.ask('POST', '/backup/', body, problem), { status: 400, json: { type: /:validation$/ } }, title);
  for (const path of ['/target/', '/restore/', '/restore/plan', '/setup', '/login'])
    t.match(await a.service.ask('POST', path, nested(20_000)), { status: 400 }, `${path}, nested 20,000 deep`);
  t.match(await a.service.ask('POST', '/backup/', `{"exclude":${nested(20_000)},${good}`), { status: 400 }, 'deep in a known key');
  t.equal(Object.hasOwn(Object.prototype, 'disable'), false);
  t.strictSame(await kept(), before);
  await alive(t);
});

t.test('a body of 256 KiB is accepted, one byte more is refused', async (t) => {
  const limit = 256 * 1024;
  const padded = (bytes: number) => JSON.stringify(targetBody({ name: 'padded' })).padEnd(bytes);
  const made = await a.service.ask('POST', '/target/', padded(limit));
  t.equal(made.status, 200);
  await a.service.call('DELETE', `/target/${idOf(made.json)}`);
  const before = await kept();
  for (const [path, bytes] of [
    ['/target/', limit + 1],
    ['/backup/', limit + 1],
    ['/login', limit + 1],
    ['/setup', limit + 1],
    ['/target/', 20 * limit],
  ] as const)
    t.match(
      await a.service.ask('POST', path, padded(bytes)),
      { status: 413, json: { error: { code: 413, message: /262144 bytes/ } } },
      `${path} ${bytes}`,
    );
  for (const bytes of [limit + 1, 2 * limit, 40 * limit])
    t.match(await sentBlindly(a.service, 'POST /api/v1/backup', bytes), /^HTTP\/1\.1 413 .*262144 bytes/s, `${bytes} without a look`);
  t.strictSame(await kept(), before);
  await alive(t);
});

t.test('a client that disconnects in its body changes nothing', async (t) => {
  const before = await kept();
  const { hostname, port } = new URL(a.service.address);
  for (let n = 0; n < 5; n++) {
    const broken = request({
      hostname,
      port,
      method: 'POST',
      path: '/api/v1/backup/',
      headers: { 'content-length': 1000, authorization: 'Bearer x' },
    });
    broken.on('error', () => undefined);
    broken.write('{"job_name":');
    await new Promise((resolve) => setTimeout(resolve, 20));
    broken.destroy();
  }
  t.strictSame(await kept(), before);
  await alive(t);
});

t.test('broken, huge and misleading paths are refused', async (t) => {
  const before = await kept();
  const ids = ['%', '%zz', '%ff', '%00', '%2e%2e', '9'.repeat(5000), '-0', '+1', '1%20', '0x1', '1;2', "1'--", '%F0%9F%92%A9', '1/../2'];
  for (const kind of ['backup', 'restore', 'target']) {
    for (const id of ids) {
      const { status, json } = await curl.ask('GET', `/${kind}/${id}`);
      t.ok(status === 404 || status === 400, `GET /${kind}/${id.slice(0, 20)}: ${status}`);
      t.equal(part(part(json, 'error'), 'code'), status);
      const run = await curl.ask('PUT', `/${kind}/${id}/${kind === 'target' ? 'ping' : 'stop'}`);
      t.ok([400, 404, 405].includes(run.status), `PUT /${kind}/${id.slice(0, 20)}/…: ${run.status}`);
    }
  }
  for (const path of [
    '/%',
    '/%zz',
    '//',
    '/backup//',
    '/backup/%2e%2e/target',
    '/%2e%2e/%2e%2e/etc/passwd',
    '/backup?%zz=%',
    '/backup/?view=%ff',
  ])
    t.ok((await curl.ask('GET', path)).status < 500, path);
  for (const run of ['%', '%zz', '%2e%2e', 'x'.repeat(3000)]) {
    const { status } = await curl.ask('GET', `/backup/${backup}/runs/${run}`);
    t.ok(status === 404 || status === 400, `run ${run.slice(0, 20)}: ${status}`);
  }
  t.match(await curl.ask('GET', `/backup/${'x'.repeat(40_000)}`), { status: 431 });
  t.strictSame(await kept(), before);
  t.ok(isBody(await a.service.call('GET', '/system/')));
  await alive(t);
});
