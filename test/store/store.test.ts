/** Acknowledged rows are there after a restart, older rows are converted, and the files show no secret. */
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openStore } from '../../core/store/index.js';
import { type RowFormat, upgradeRow } from '../../core/store/row-format.js';

const spec = {
  job_name: 'J',
  container_id: 'c',
  type: 'lxc',
  dest: { target: 'local', path: '/test/b' },
  at: { repeat: 'daily', start: 60 },
  disable: false,
  retention: 0,
  features: [],
} as const;

t.test('rows survive a reopening, and ids are never reused', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'store-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const first = await openStore(folder);
  const made = await Promise.all([1, 2, 3].map(() => first.backup.create(spec, { code: 'init' })));
  t.strictSame(
    made.map((r) => r.id),
    [1, 2, 3],
  );
  await first.backup.delete(3);
  await first.leases.put({ runtime: 'lxc', container: 'c', until: 5 });
  await first.users.create('u', 'a secret password', true);
  const { token } = await first.sessions.create({ username: 'u', isAdmin: true }, 60_000);
  await first.targets.create({
    name: 'n',
    ipaddr: 'h',
    username: 'u',
    password: 'Tr0ub4dor',
    desc: '',
    base: '/',
    encrypt: false,
    options: { privateKey: 'KEYTEXT' },
  });
  await first.close();

  const second = await openStore(folder);
  t.strictSame(
    (await second.backup.list()).map((r) => r.id),
    [1, 2],
  );
  t.equal((await second.backup.create(spec, { code: 'init' })).id, 4);
  t.strictSame(await second.leases.list(), [{ runtime: 'lxc', container: 'c', until: 5 }]);
  t.match(await second.sessions.find(token), { username: 'u' });
  t.match(await second.targets.get(1), { spec: { password: 'Tr0ub4dor', options: { privateKey: 'KEYTEXT' } } });
  t.equal(await second.users.verify('u', 'wrong'), undefined);
  t.match(await second.users.verify('u', 'a secret password'), { isAdmin: true });
  await second.close();

  const files = await readdir(join(folder, 'db'));
  const bytes = Buffer.concat(await Promise.all(files.map((f) => readFile(join(folder, 'db', f)))));
  for (const secret of ['Tr0ub4dor', 'KEYTEXT', 'a secret password', token]) t.notOk(bytes.includes(secret), secret.slice(0, 4));
  t.equal((await stat(join(folder, 'secret.key'))).mode & 0o777, 0o600);
});

t.test('unknown keys of a later version survive in a job’s row', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'store-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const later = { code: 'scheduled', later: { as: 'firmware that falls back finds it' } } as const;
  const first = await openStore(folder);
  await first.backup.create(spec, later);
  await first.close();
  const second = await openStore(folder);
  const found = await second.backup.get(1);
  t.match(found, { state: later });
  if (found) await second.backup.put({ ...found, state: { ...found.state, missed: true } });
  await second.close();
  const third = await openStore(folder);
  t.match(await third.backup.get(1), { state: { ...later, missed: true } });
  await third.close();
});

t.test('concurrent changes of a target are both stored', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'store-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const store = await openStore(folder);
  const { id } = await store.targets.create({
    name: 'n',
    ipaddr: 'h',
    username: 'u',
    password: 'old',
    desc: '',
    base: '/',
    encrypt: false,
  });
  const found = { ipaddr: 'h', type: 'sftp', options: { hostKey: 'SHA256:pinned' } };
  const changes = [
    store.targets.update(id, (record) => ({ ...record, spec: { ...record.spec, password: 'new' } })),
    store.targets.update(id, (record) => ({ ...record, found })),
    store.targets.update(id, () => {
      throw new Error('refused');
    }),
    store.targets.update(id, (record) => ({ ...record, spec: { ...record.spec, desc: 'told' } })),
  ];
  t.strictSame(
    (await Promise.allSettled(changes)).map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  );
  t.match(await store.targets.get(id), { spec: { password: 'new', desc: 'told' }, found });
  t.equal(await store.targets.update(7, (record) => record), undefined, 'one that is gone is not made');
  t.equal(await store.targets.get(7), undefined);
  await store.close();
});

t.test('rows of older versions are upgraded when they are read', async (t) => {
  const kind: RowFormat<{ size: number }> = {
    name: 'box',
    version: 3,
    steps: { 1: ({ width }) => ({ length: width }), 2: ({ length }) => ({ size: length }) },
    read({ size }) {
      if (typeof size !== 'number') throw new Error('damaged');
      return { size };
    },
    write: (box) => ({ ...box }),
  };
  t.strictSame(upgradeRow(kind, { v: 1, width: 4 }), { size: 4 });
  t.strictSame(upgradeRow(kind, { v: 3, size: 4 }), { size: 4 });
  t.throws(() => upgradeRow(kind, { v: 4, size: 4 }), /newer version/);
  t.throws(() => upgradeRow(kind, { v: 3 }), /damaged/);
  t.throws(() => upgradeRow(kind, 'x'), /damaged/);
});
