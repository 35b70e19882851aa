/** Long lists: their pages, the link to the next page, and the same order as the whole list. */
import t from 'tap';
import { part } from '../support/api-client.js';
import { startIn } from './harness.js';

const job = (name: string) => ({
  job_name: name,
  container_id: name,
  type: 'lxc',
  dest: { target: 'local', path: '/test/b' },
  at: { repeat: 'daily', start: 60 },
});

const idsOf = (list: unknown): unknown[] => (Array.isArray(list) ? list.map((one) => part(one, 'id')) : []);

t.test('a list comes in pages of the wanted size, each with a link to the next', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  for (let n = 1; n <= 250; n++) await h.ask('POST', '/api/v1/backup/', job(`job-${n}`));
  await h.ask('DELETE', '/api/v1/backup/2');
  const whole = idsOf((await h.ask('GET', '/api/v1/backup/')).json);
  t.equal(whole.length, 249);
  const gathered: unknown[] = [];
  let path: string | undefined = '/api/v1/backup/?view=full&limit=100';
  for (let parts = 0; path !== undefined && parts < 5; parts++) {
    const { json, headers } = await h.ask('GET', path);
    t.ok(idsOf(json).length <= 100);
    gathered.push(...idsOf(json));
    path = /^<(\S+)>; rel="next"$/.exec(headers.get('link') ?? '')?.[1];
  }
  t.same(gathered, whole);
  t.same(idsOf((await h.ask('GET', '/api/v1/backup/?limit=3&offset=1')).json), [3, 4, 5]);
  t.same(idsOf((await h.ask('GET', '/api/v1/backup/?limit=2&after=1')).json), [3, 4]);
  t.same((await h.ask('GET', '/api/v1/backup/?limit=2&after=9999')).json, []);
  for (const query of ['limit=0', 'limit=1001', 'limit=x', 'offset=-1', 'after=1.5'])
    t.equal((await h.ask('GET', `/api/v1/backup/?${query}`)).status, 400, query);
});

t.test('a list of many jobs asks the engine once', async (t) => {
  let asked = 0;
  const h = await startIn({
    listContainers: async () => {
      asked++;
      return [{ id: 'job-7', name: 'job-7', image: '', state: 'running', type: 'lxc' }];
    },
  });
  t.teardown(() => h.close());
  for (let n = 1; n <= 120; n++) await h.ask('POST', '/api/v1/backup/', job(`job-${n}`));
  const { json } = await h.ask('GET', '/api/v1/backup/?view=full');
  t.equal(asked, 1);
  t.same(Array.isArray(json) && json.filter((one) => part(one, 'container_found')).map((one) => part(one, 'job_name')), ['job-7']);
});

t.test('every JSON answer forbids caching and running scripts', async (t) => {
  const h = await startIn();
  t.teardown(() => h.close());
  for (let n = 1; n <= 101; n++) await h.ask('POST', '/api/v1/backup/', job(`job-${n}`));
  for (const path of ['/api/v1/backup/', '/api/v1/backup/?limit=2', '/api/v1/backup/0']) {
    const { headers } = await h.ask('GET', path);
    t.match(headers.get('content-type'), /^application\/json/, path);
    t.equal(headers.get('cache-control'), 'no-store', path);
    t.equal(headers.get('content-security-policy'), "default-src 'none'; frame-ancestors 'none'", path);
  }
  t.equal((await h.ask('GET', '/api/v1/backup/')).headers.get('content-length'), null, 'a long list is sent in pieces');
});
