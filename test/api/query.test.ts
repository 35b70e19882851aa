/** The query of every route: its own keys with values of their schemas, each once, and nothing else. */
import t from 'tap';
import { isBody } from '../support/api-client.js';
import { at } from '../support/described-answers.js';
import { start, startIn } from './harness.js';

const job = {
  job_name: 'J',
  container_id: 'c',
  type: 'lxc',
  dest: { target: 'local', path: '/test/b' },
  at: { repeat: 'daily', start: 60 },
};
const entriesOf = (value: unknown): [string, unknown][] => Object.entries(isBody(value) ? value : {});

/** Every route with the query keys of its description. */
function routesOf(description: unknown): { method: string; path: string; keys: string[] }[] {
  return entriesOf(at(description, 'paths')).flatMap(([path, operations]) =>
    entriesOf(operations).map(([method, operation]) => {
      const parameters = at(operation, 'parameters');
      const inQuery = Array.isArray(parameters) ? parameters.filter((one) => at(one, 'in') === 'query') : [];
      return { method: method.toUpperCase(), path: path.replace(/\{\w+\}/g, '1'), keys: inQuery.map((one) => String(at(one, 'name'))) };
    }),
  );
}

t.test('every route refuses an unknown key, and names it and the keys that it takes', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  await h.ask('POST', '/api/v1/backup/', job);
  const routes = routesOf((await h.ask('GET', '/api/v1/openapi.json')).json);
  t.ok(routes.length > 35, `${routes.length} routes`);
  for (const { method, path, keys } of routes) {
    const { status, json } = await h.ask(method, `${path}?shedule=1`, method === 'GET' ? undefined : {});
    const known = keys.length === 0 ? 'takes none' : `takes ${keys.join(', ')}`;
    t.equal(status, 400, `${method} ${path}`);
    const message = `Bad Request: "shedule" is not a query key of this route, which ${known}`;
    t.same(json, { error: { code: 400, message } }, `${method} ${path}`);
  }
  t.equal((await h.ask('GET', '/api/v1/backup/1')).status, 200, 'and nothing was changed');
});

t.test('every change can be asked for with view=full', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  for (const { method, path, keys } of routesOf((await h.ask('GET', '/api/v1/openapi.json')).json))
    if (method !== 'GET') t.ok(keys.includes('view'), `${method} ${path}`);
  t.match(await h.ask('POST', '/api/v1/backup/?view=full', job), { status: 200, json: { container_found: false } });
  t.match(await h.ask('PUT', '/api/v1/preference/?view=full', { backup_concurrent: 3 }), { status: 200, json: { backup_concurrent: 3 } });
  t.match(await h.ask('DELETE', '/api/v1/backup/1?view=full'), { status: 200, json: [1] });
});

t.test('a value that the schema of its key does not allow is refused, and so is a key that comes twice', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  await h.ask('POST', '/api/v1/backup/', job);
  const count = 'a whole number from';
  const cases: readonly (readonly [method: string, path: string, why: string])[] = [
    ...['x', '', 'FULL', '1', '%ff'].map((view) => ['GET', `/backup/1?view=${view}`, 'view must be full'] as const),
    ...['0', '1001', 'x', '', '1.5', '-1', '1e2', '9'.repeat(400)].map(
      (limit) => ['GET', `/backup/?limit=${limit}`, `limit must be ${count} 1 to 1000`] as const,
    ),
    ...['-1', '1.5', '', '9007199254740992'].map((after) => ['GET', `/restore/?after=${after}`, `after must be ${count} 0 to`] as const),
    ['GET', '/backup/?offset=-1', `offset must be ${count} 0 to`],
    ['GET', '/backup/1/history?before=0', `before must be ${count} 1 to`],
    ['GET', '/backup/1/history?limit=0', `limit must be ${count} 1 to 1000`],
    ...['0', '61', 'x', ''].map((seconds) => ['GET', `/backup/progress?duration=${seconds}`, `duration must be ${count} 1 to 60`] as const),
    ...['1', 'false', 'yes', ''].map((purge) => ['DELETE', `/backup/1?purge=${purge}`, 'purge must be true'] as const),
    ['GET', '/container/?type=', 'type must be the id of a runtime plugin'],
    ['GET', '/backup/?limit=2&limit=2', 'limit must be given only once'],
    ['GET', '/backup/?view=full&limit=2&view=full', 'view must be given only once'],
    ['GET', '/backup/?=1', '"" is not a query key'],
    ['GET', '/backup/?View=full', '"View" is not a query key'],
  ];
  for (const [method, path, why] of cases) {
    const { status, json } = await h.ask(method, `/api/v1${path}`, undefined, { accept: 'application/problem+json' });
    t.match(json, { type: 'urn:container-backup:error:bad_request', status: 400 }, path);
    t.ok(String(at(json, 'detail')).includes(why), `${path}: ${at(json, 'detail')}`);
    t.equal(status, 400, path);
  }
  t.equal((await h.ask('GET', '/api/v1/backup/1')).status, 200, 'and nothing was deleted');
  for (const path of ['/backup/?', '/backup/?&', '/backup/?limit=%31', '/container/?type=lxc'])
    t.equal((await h.ask('GET', `/api/v1${path}`)).status, 200, path);
});

t.test('who may not ask is told that first', async (t) => {
  const h = await start();
  t.teardown(() => h.close());
  t.equal((await h.ask('GET', '/api/v1/backup/?shedule=1')).status, 401);
  await h.store.users.create('guest', 'just looking', false);
  await h.ask('POST', '/api/v1/login', 'username=guest&password=just+looking');
  t.equal((await h.ask('DELETE', '/api/v1/backup/1?purge=1')).status, 403);
  t.equal((await h.ask('GET', '/api/v1/nothing?shedule=1')).status, 404);
});
