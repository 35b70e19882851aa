import { chmod, mkdir, open, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t from 'tap';
import { entries, never, pattern, read, refused, store } from '../../conformance/target/support.js';
import { openSmb, Smbd, stateFolder } from '../../support/servers/smbd.js';

const state = await stateFolder(t);
const smbd = await Smbd.start();
t.teardown(() => smbd[Symbol.asyncDispose]());

t.test('odd names are stored as they are', async (t) => {
  await using target = await openSmb(smbd, state, { base: "data/ba;se  of 'mine'/ü" });
  const names = [
    '  two  spaces',
    'a;del b',
    "it's",
    '日本 📦',
    'NT_STATUS_DISK_FULL',
    'x      A      7  Wed Nov 25 07',
    '!id',
    '%s%n',
    '-f',
    '[a]',
    'n'.repeat(240),
  ];
  for (const name of names) {
    await store(target, name, name);
    t.same(await target.stat(name), { name, folder: false, size: Buffer.byteLength(name) });
    t.equal(String(await read(await target.get(name, { signal: never() }))), name);
  }
  const sorted = [...names].sort();
  t.same((await entries(target, '')).map(({ name }) => name).sort(), sorted, 'listed');
  t.same((await readdir(join(smbd.folder, "ba;se  of 'mine'/ü"))).sort(), sorted, 'as they are on the server');
  for (const name of names) await target.remove(name);
  t.same(await entries(target, ''), []);
});

t.test('names that look like error messages of the server are ordinary names', async (t) => {
  const named = 'NT_STATUS_DISK_FULL';
  await using target = await openSmb(smbd, state, { base: `data/${named}` });
  await store(target, `${named}/${named}`, 'x');
  await refused(t, store(target, `${named}/${named}`, 'y'), ['exists'], 'a second time');
  await refused(t, store(target, `${named}/${named}/${named}`, 'x'), ['invalid'], 'a file as a folder');
  await refused(t, target.get(`${named}/absent/${named}`, { signal: never() }).then(read), ['not_found'], 'absent');
  await refused(t, target.get(named, { signal: never() }).then(read), ['invalid'], 'a folder');
  await target.put(`${named}/${named}`, Readable.from(['z']), { signal: never(), replace: true });
  t.equal(String(await read(await target.get(`${named}/${named}`, { signal: never() }))), 'z');
  await chmod(join(smbd.folder, named, named), 0o555);
  await refused(t, store(target, `${named}/other ${named}`, 'x'), ['read_only'], 'a folder that is not the own');
  await chmod(join(smbd.folder, named, named), 0o755);
  await target.remove(named);
  t.same(await entries(target, ''), []);
});

t.test('names that SMB cannot store are refused', async (t) => {
  await using target = await openSmb(smbd, state);
  const before = await readdir(smbd.folder);
  const bad = [
    'a"b',
    'a*',
    'a:b',
    'a<b',
    'a>b',
    'a?',
    'a|b',
    'a\\b',
    'a\nls',
    'a\rb',
    'a\tb',
    'end ',
    'end /x',
    '\ud800',
    'x/'.repeat(2500).slice(0, -1),
  ];
  for (const path of bad) {
    await refused(t, store(target, path, 'x'), ['invalid'], `put ${JSON.stringify(path.slice(0, 20))}`);
    await refused(t, target.stat(path), ['invalid'], 'stat');
    await refused(t, target.remove(path), ['invalid'], 'remove');
  }
  t.same(await readdir(smbd.folder), before, 'nothing is left');
});

t.test('a name with a final dot is refused where the server would change it', async (t) => {
  await using target = await openSmb(smbd, state);
  for (const path of ['dots/end.', 'dots/...', 'dots/folder./file']) await refused(t, store(target, path, 'x'), ['invalid'], path);
  t.notOk((await readdir(smbd.folder)).includes('dots'), 'nothing is left');
});

t.test('a large folder, large files and old dates are listed', async (t) => {
  await using target = await openSmb(smbd, state);
  const folder = join(smbd.folder, 'listed');
  await mkdir(folder);
  await chmod(folder, 0o777);
  await writeFile(join(folder, 'old'), 'x');
  await utimes(join(folder, 'old'), 0, 0);
  const sparse = await open(join(folder, 'large'), 'w');
  await sparse.truncate(3e12);
  await sparse.close();
  for (let i = 0; i < 2000; i++) await writeFile(join(folder, `${i}`), '');
  const found = await entries(target, 'listed');
  t.equal(found.length, 2002);
  t.same(
    found.filter(({ size }) => size > 0),
    [
      { name: 'large', folder: false, size: 3e12 },
      { name: 'old', folder: false, size: 1 },
    ],
  );
  await target.remove('listed');
  t.equal(await target.stat('listed'), undefined);
});

t.test('ranges of a file can be read', async (t) => {
  await using target = await openSmb(smbd, state);
  const size = 5_000_003;
  const whole = pattern(size);
  await target.put('range', Readable.from([whole]), { signal: never() });
  for (const [offset, length] of [
    [0, 0],
    [0, 1],
    [1, 70_000],
    [3_000_000, 2_000_003],
    [size - 5, 100],
    [10, 0],
    [size, 5],
  ] as const) {
    const bytes = await read(await target.get('range', { signal: never(), offset, length }));
    t.ok(bytes.equals(whole.subarray(offset, offset + length)), `${offset} + ${length}`);
  }
  await refused(t, target.get('range', { signal: never(), offset: -1 }), ['invalid'], 'negative');
  await refused(t, target.get('absent/range', { signal: never() }), ['not_found'], 'absent');
  await refused(t, store(target, 'range/below', 'x'), ['invalid'], 'a file as a folder');
  t.same(await entries(target, 'range'), [], 'a file holds nothing');
});

t.test('folders without permission refuse writes as read_only and lists as denied', async (t) => {
  await using target = await openSmb(smbd, state);
  await mkdir(join(smbd.folder, 'foreign'));
  await mkdir(join(smbd.folder, 'closed'));
  await chmod(join(smbd.folder, 'closed'), 0o700);
  await refused(t, store(target, 'foreign/x', 'x'), ['read_only'], 'readable');
  await refused(t, store(target, 'closed/x', 'x'), ['denied'], 'not readable');
  await refused(t, entries(target, 'closed'), ['denied'], 'list');
});
