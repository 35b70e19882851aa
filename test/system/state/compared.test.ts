/** The service compares both copies of the state while it runs. It repairs and logs a difference before a restart needs that copy. */
import { cp, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openStore } from '../../../core/store/index.js';
import { ApiClient, notSoon } from '../../support/api-client.js';
import { startProcess } from '../bed/service-process.js';
import { until } from '../pause/python-container.js';
import { backupNamed, contentsOf, flip, type Harm, harms, makeStateBed, outcomeOf } from './bed.js';

const compared = 'both copies of the state were compared';

/** Removed, or as a file system check may leave it. */
const ways: Readonly<Record<string, Harm>> = {
  deleted: (path) => rm(path, { recursive: true }),
  empty: harms.empty ?? (() => Promise.reject(new Error('no such harm'))),
  half: harms.half ?? (() => Promise.reject(new Error('no such harm'))),
  'a bit': async (file) => flip(Math.floor((await stat(file)).size / 2) * 8 + 3)(file, ''),
};

t.test('the next comparison repairs and logs a damaged file of either copy', async (t) => {
  const bed = await makeStateBed(t);
  for (const part of ['db', 'journal']) {
    for (const [name, harm] of Object.entries(ways)) {
      const { folder, end } = await bed.copy();
      const told: string[] = [];
      const log = (_: string, message: string) => void told.push(message);
      const store = await openStore(folder, { log, compareEvery: 20 });
      await store.backup.create(backupNamed('one-more'), { code: 'scheduled' });
      const contents = await contentsOf(store);
      const [first = ''] = (await readdir(join(folder, part)))
        .filter((file) => /\.(log|ldb)$/.test(file))
        .sort()
        .reverse();
      await harm(name === 'deleted' ? join(folder, part) : join(folder, part, first), '');
      const count = () => told.filter((message) => message === compared).length;
      const before = count();
      await until('it was compared twice', async () => count() > before + 1);
      await store.backup.create(backupNamed('after-it'), { code: 'scheduled' });
      t.match(
        told.filter((message) => message !== compared),
        [/^the (database|journal) (is damaged; it is rebuilt from memory|lacked the last \d+ writes)/],
        `${part}/${first} ${name}: told once`,
      );
      t.strictSame((await contentsOf(store)).targets, contents.targets);
      await store.close();
      const after = await outcomeOf(folder);
      t.match(after, { kind: 'whole', told: [] }, 'a restart finds both copies whole');
      t.equal(JSON.stringify(after.contents).includes('"one-more"'), true);
      await end();
    }
  }
});

t.test('a running service compares and repairs by itself', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'compared-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const state = join(folder, 'state');
  const engines = ['--lxc-path', join(folder, 'no-lxc'), '--docker-socket', join(folder, 'no-docker')];
  await using service = startProcess(['serve', '--state', state, '--listen', '127.0.0.1:0', '--compare-hours', '0.0001', ...engines]);
  const [, address = ''] = await service.announces(/^listening on (http:\/\/\S+)/);
  const [, code = ''] = await service.announces(/setup code: (\S+)/);
  const client = new ApiClient(address);
  await client.logIn(code);
  const job = { container_id: 'web', type: 'lxc', dest: { target: 'local', path: '/backup/b' }, at: notSoon() };
  await client.call('POST', '/backup/', { ...job, job_name: 'one' });
  await rm(join(state, 'db'), { recursive: true });
  await until('it is told', async () => /warn the database is damaged; it is rebuilt/.test(service.said.stderr));
  await rm(join(state, 'journal'), { recursive: true });
  await until('it is told', async () => /warn the journal is damaged; it is rebuilt/.test(service.said.stderr));
  await client.call('POST', '/backup/', { ...job, job_name: 'two' });
  const copy = join(folder, 'copy');
  service.child.kill('SIGKILL');
  await service.ended;
  await cp(state, copy, { recursive: true });
  t.match(await outcomeOf(copy), { contents: { backups: [{ spec: { job_name: 'one' } }, { spec: { job_name: 'two' } }] } });
});
