/** The disk of the state is full. Reads work, urgent writes use the reserve, other writes are refused, and the service recovers
 *  by itself when there is space. */
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { PluginError } from '../../../core/contract/index.js';
import { openStore, type Store } from '../../../core/store/index.js';
import { notSoon } from '../../support/api-client.js';
import { DemoService } from '../../support/demo-client.js';
import { pointsOf } from '../../support/depth.js';
import { destroyLxc, makeLxcContainer, makeLxcPath, startLxc } from '../../support/lxc.js';
import { startProcess } from '../bed/service-process.js';
import { until } from '../pause/python-container.js';
import { backupNamed, contentsOf, cutLines, outcomeOf } from './bed.js';
import { smallDisk } from './small-disk.js';

const isNoSpace = (error: unknown): boolean =>
  error instanceof PluginError && error.code === 'no_space' && /no room in \S+: \d+ bytes are free and \d+ are needed/.test(error.message);

const isNoSpaceError = { code: 'no_space' };

/** Writes as clients do until there is no room. @returns the number of acknowledged writes */
async function fillWithJobs(store: Store, most: number): Promise<number> {
  for (let n = 0; n < most; n++) {
    try {
      await store.backup.create(backupNamed(`more-${n}`), { code: 'scheduled' });
    } catch (error) {
      if (!isNoSpace(error)) throw error;
      return n;
    }
  }
  return most;
}

/** Writes that must work on a full disk, too. */
async function urgentWrites(store: Store): Promise<void> {
  await store.leases.put({ runtime: 'lxc', container: 'c', until: 7 });
  await store.backup.delete(2);
  await store.sessions.create({ username: 'u', isAdmin: true }, 60_000);
}

const resultOf = (bytes: number) => ({ id: 1, spec: backupNamed('first'), state: { code: 'scheduled', result: 0, bytes } }) as const;

t.test('a full disk refuses new jobs but stores leases, results and deletions, at any level', async (t) => {
  const { levels } = pointsOf('state');
  for (let level = 0; level < levels; level++) {
    const disk = await smallDisk(t, level % 2 === 0 ? 'tmpfs' : 'ext4');
    const folder = join(disk.folder, 'state');
    const store = await openStore(folder);
    await store.backup.create(backupNamed('first'), { code: 'scheduled' });
    await store.backup.create(backupNamed('second'), { code: 'scheduled' });
    const free = Math.floor((level * 160_000) / levels);
    await disk.fill(free);
    const taken = await fillWithJobs(store, 200);
    await urgentWrites(store);
    await store.backup.put(resultOf(level), 'late');
    await t.rejects(store.backup.create(backupNamed('refused'), { code: 'scheduled' }), isNoSpaceError, 'the reserve is not for clients');
    t.equal((await store.backup.list()).length, taken + 1, `${free} bytes free: ${taken} jobs were taken, and all is read`);
    await disk.empty();
    await store.backup.create(backupNamed('last'), { code: 'scheduled' });
    const contents = await contentsOf(store);
    await store.close();
    t.match(await outcomeOf(folder), { kind: 'whole', told: [] });
    t.same((await outcomeOf(folder)).contents, contents, 'and is there after a restart');
  }
});
t.test('a result waits in memory when the reserve is used up, and is written when there is space', async (t) => {
  const disk = await smallDisk(t);
  const folder = join(disk.folder, 'state');
  const store = await openStore(folder);
  await store.backup.create(backupNamed('first'), { code: 'scheduled' });
  await store.backup.create(backupNamed('second'), { code: 'scheduled' });
  await disk.fill(0);
  let refused: unknown;
  for (let n = 0; n < 200 && refused === undefined; n++) {
    const lease = { runtime: 'lxc', container: `c-${n}`, until: 7 };
    refused = await store.leases.put(lease).then(
      () => undefined,
      (error: unknown) => error,
    );
    await disk.fill(0); // uses up the reserve, too
  }
  t.match(refused, isNoSpaceError, 'a lease must be on the disk');
  await store.backup.put(resultOf(77), 'late');
  t.match(await store.backup.get(1), { state: { bytes: 77 } }, 'it is read at once');
  await disk.empty();
  await until('it is on the disk', async () => {
    const copy = await mkdtemp(join(tmpdir(), 'full-'));
    await cp(folder, copy, { recursive: true });
    const { contents } = await outcomeOf(copy).finally(() => rm(copy, { recursive: true }));
    return JSON.stringify(contents).includes('"bytes":77');
  });
  await store.close();
});

t.test('the service answers and runs on a full disk, and recovers by itself', async (t) => {
  const disk = await smallDisk(t);
  const share = await mkdtemp(join(tmpdir(), 'full-share-'));
  const lxcPath = await makeLxcPath();
  await makeLxcContainer(lxcPath, 'web');
  await startLxc(lxcPath, 'web');
  const stateFolder = join(disk.folder, 'state');
  await mkdir(stateFolder);
  await using service = await DemoService.start({ stateFolder, shares: { test: share }, lxcPath, quiet: true });
  t.teardown(async () => {
    await destroyLxc(lxcPath, 'web');
    for (const path of [share, lxcPath]) await rm(path, { recursive: true, force: true });
  });
  const job = (name: string) => ({
    job_name: name,
    container_id: 'web',
    type: 'lxc',
    dest: { target: 'local', path: '/test/b' },
    at: notSoon(),
  });
  for (const name of ['web', 'spare']) await service.call('POST', '/backup/', job(name));
  await disk.fill(0);
  let refused = await service.ask('POST', '/backup/', job('more-0'));
  for (let n = 1; refused.status === 200 && n < 50; n++) refused = await service.ask('POST', '/backup/', job(`more-${n}`));
  t.equal(refused.status, 507);
  t.match(refused.json, { error: { message: new RegExp(`no room in ${stateFolder}: \\d+ bytes are free and \\d+ are needed`) } });
  for (const path of ['/api/v1/backup/', '/api/v1/backup/1', '/healthz', '/readyz'])
    t.equal((await fetch(`${service.address}${path}`, { headers: { cookie: service.cookie } })).status, 200, path);
  await service.logIn();
  t.equal((await service.ask('DELETE', '/backup/2')).status, 200);
  t.equal((await service.ask('PUT', '/backup/1/run')).status, 507, 'a client is told at once that its run cannot be kept');
  await disk.empty();
  await service.backUp(1);
  t.equal((await service.ask('POST', '/backup/', job('more'))).status, 200);
});

t.test('a start that must rebuild the database without free space fails with the reason and loses nothing', async (t) => {
  const disk = await smallDisk(t);
  const folder = join(disk.folder, 'state');
  const store = await openStore(folder);
  for (const name of ['first', 'second']) await store.backup.create(backupNamed(name), { code: 'scheduled' });
  const contents = await contentsOf(store);
  await store.close();
  await rm(join(folder, 'reserve'));
  await cutLines(join(folder, 'journal/rows-1.log'), '"first"');
  await disk.fill(0);
  await t.rejects(openStore(folder), {
    code: 'no_space',
    message: /no room in the state folder \S+: 0 bytes are free; free some space there/,
  });
  await disk.empty();
  t.match(await outcomeOf(folder), { kind: 'healed', told: [/^the journal is not continued/, String] });
  t.same((await outcomeOf(folder)).contents, contents);
});

t.test('the service starts without free space, reads, refuses writes, and recovers by itself', async (t) => {
  for (const kind of ['tmpfs', 'ext4'] as const) {
    const disk = await smallDisk(t, kind);
    const state = join(disk.folder, 'state');
    await mkdir(state);
    const options = { stateFolder: state, shares: {}, lxcPath: join(disk.folder, 'none'), quiet: true };
    const job = { job_name: 'web', container_id: 'web', type: 'lxc', dest: { target: 'local', path: '/backup/b' }, at: notSoon() };
    let cookie: string;
    {
      await using service = await DemoService.start(options);
      await service.call('POST', '/backup/', job);
      ({ cookie } = service);
      await service.kill();
    }
    await rm(join(state, 'reserve'));
    await disk.fill(0);
    await using service = startProcess(['serve', '--state', state, '--listen', '127.0.0.1:0', '--lxc-path', options.lxcPath]);
    const [, address = ''] = await service.announces(/^listening on (http:\/\/\S+)/);
    const ask = (path: string, body?: object) =>
      fetch(`${address}${path}`, { headers: { cookie }, ...(body && { method: 'POST', body: JSON.stringify(body) }) });
    for (const path of ['/api/v1/backup/', '/api/v1/backup/1', '/healthz', '/readyz']) t.equal((await ask(path)).status, 200, path);
    const more = { ...job, job_name: 'more' };
    const refused = await ask('/api/v1/backup/', more);
    t.equal(refused.status, 507);
    t.match(await refused.json(), { error: { code: 507, message: /no room in \S+: \d+ bytes are free and \d+ are needed/ } });
    await disk.empty();
    await until('it takes writes', async () => (await ask('/api/v1/backup/', more)).status === 200);
    t.match(service.said.stderr, /no room in \S+: rows are read from the journal/);
    service.child.kill('SIGTERM');
    t.equal(await service.ended, 0);
    t.match(await outcomeOf(state), { kind: 'whole', contents: { backups: { length: 2 } } });
  }
});
