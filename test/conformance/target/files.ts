import { Readable } from 'node:stream';
import { type Bench, type Check, digest, entries, never, pattern, read, refused, store, supply } from './support.js';

/** Checks of files and folders without faults. */
export const files: readonly Check[] = [
  { title: 'bytes come back in order', run: order },
  { title: 'a source of many uneven chunks is stored in order', run: uneven },
  { title: 'an empty file is stored and read', run: empty },
  { title: 'a put over a file is refused without replace', run: exists },
  { title: 'a reader sees the old or the new file, never a part', run: wholeOrNothing },
  { title: 'ranges of a file can be read, with or without support for ranges', run: ranges },
  { title: 'a get stops at the end of a file, and one that begins after it is invalid', run: pastEnd },
  { title: 'folders are made and listed', run: folders },
  { title: 'a listing has the time of each file on request', run: times },
  { title: 'an absent path has no stat, an empty list and a remove without effect, and get does not find it', run: absent },
  { title: 'remove deletes a file or a tree and nothing else', run: tree },
  { title: 'concurrent puts store their own bytes, and one of several puts of a name wins', run: concurrent },
  { title: 'space is known or reported as unsupported', run: space },
];

async function order({ t, target, open, folder }: Bench): Promise<void> {
  const size = 3 * (1 << 20) + 17;
  t.equal((await target.put(`${folder}/a`, supply(size).stream, { signal: never() })).bytes, size);
  t.same(await target.stat(`${folder}/a`), { name: 'a', folder: false, size });
  await using other = await open();
  t.ok((await read(await other.get(`${folder}/a`, { signal: never() }))).equals(pattern(size)), 'another connection reads the same bytes');
}

async function uneven({ t, target, folder }: Bench): Promise<void> {
  const whole = pattern(300_000);
  const pieces: Buffer[] = [];
  for (let at = 0, size = 1; at < whole.length; at += size, size = ((size * 7) % 4099) + 1) pieces.push(whole.subarray(at, at + size));
  await target.put(`${folder}/u`, Readable.from(pieces), { signal: never() });
  t.ok((await read(await target.get(`${folder}/u`, { signal: never() }))).equals(whole));
}

async function empty({ t, target, folder }: Bench): Promise<void> {
  t.equal((await target.put(`${folder}/0`, Readable.from([]), { signal: never() })).bytes, 0);
  t.same(await target.stat(`${folder}/0`), { name: '0', folder: false, size: 0 });
  t.equal((await read(await target.get(`${folder}/0`, { signal: never() }))).length, 0);
}

async function exists({ t, target, folder }: Bench): Promise<void> {
  await store(target, `${folder}/f`, 'one');
  await refused(t, store(target, `${folder}/f`, 'two'), ['exists'], 'put over a file');
  t.equal(String(await read(await target.get(`${folder}/f`, { signal: never() }))), 'one', 'the file is as it was');
  await store(target, `${folder}/f`, 'three', true);
  t.equal(String(await read(await target.get(`${folder}/f`, { signal: never() }))), 'three', 'replaced when told so');
  await store(target, `${folder}/new`, 'x', true);
  t.same(
    (await entries(target, folder)).map(({ name }) => name),
    ['f', 'new'],
    'nothing else is left',
  );
}

async function wholeOrNothing({ t, target, open, folder }: Bench): Promise<void> {
  const size = 4 << 20;
  const versions = [Buffer.alloc(size, 1), Buffer.alloc(size / 2, 2)];
  const known = new Set(await Promise.all(versions.map((bytes) => digest(Readable.from([bytes])))));
  await target.put(`${folder}/w`, Readable.from([versions[0]]), { signal: never() });
  await using reader = await open();
  let writing = true;
  const writer = (async () => {
    try {
      for (let i = 1; i <= 10; i++) await target.put(`${folder}/w`, Readable.from([versions[i % 2]]), { signal: never(), replace: true });
    } finally {
      writing = false;
    }
  })();
  let parts = 0;
  let reads = 0;
  // without an atomic replace the file may be missing for a moment, but a reader must never see a part of it
  while (writing) {
    const seen = await reader.get(`${folder}/w`, { signal: never() }).then(digest, () => undefined);
    if (seen === undefined ? target.supports.atomicReplace : !known.has(seen)) parts++;
    reads++;
  }
  await writer;
  t.equal(parts, 0, `${reads} reads were whole`);
}

async function ranges({ t, target, folder }: Bench): Promise<void> {
  const size = 1_000_003;
  const whole = pattern(size);
  await store(target, `${folder}/r`, whole);
  const cases: readonly { offset?: number; length?: number }[] = [
    { offset: 0, length: 1 },
    { offset: 1, length: 70_000 },
    { offset: 65_536, length: 65_536 },
    { offset: size - 5 },
    { length: 10 },
    { offset: size - 5, length: 100 },
    { offset: 10, length: 0 },
    { offset: size },
  ];
  for (const o of cases) {
    const { offset = 0, length = size } = o;
    const bytes = await read(await target.get(`${folder}/r`, { signal: never(), ...o }));
    t.ok(bytes.equals(whole.subarray(offset, offset + length)), JSON.stringify(o));
  }
}

async function pastEnd({ t, target, folder }: Bench): Promise<void> {
  const get = async (name: string, o: { offset?: number; length?: number }) =>
    read(await target.get(`${folder}/${name}`, { signal: never(), ...o }));
  for (const size of [0, 1000]) {
    const name = `${size}`;
    await store(target, `${folder}/${name}`, pattern(size));
    t.equal((await get(name, { offset: size })).length, 0, `${size} bytes, at the end`);
    t.equal((await get(name, { offset: size, length: 10 })).length, 0, 'at the end, some');
    t.ok((await get(name, { length: 5000 })).equals(pattern(size)), 'longer than the file: what there is');
    for (const o of [{ offset: size + 1 }, { offset: size + 1, length: 0 }, { offset: 1e9, length: 10 }])
      await refused(t, get(name, o), ['invalid'], `${size} bytes, ${JSON.stringify(o)}`);
  }
  for (const o of [{ offset: -1 }, { length: -1 }, { offset: Number.NaN }])
    await refused(t, get('1000', o), ['invalid'], JSON.stringify(o));
}

async function folders({ t, target, folder }: Bench): Promise<void> {
  await store(target, `${folder}/a/b/c/deep`, 'deep');
  await store(target, `${folder}/a/file`, 'file');
  t.same(await entries(target, folder), [{ name: 'a', folder: true, size: 0 }]);
  t.same(await entries(target, `${folder}/a`), [
    { name: 'b', folder: true, size: 0 },
    { name: 'file', folder: false, size: 4 },
  ]);
  t.same(await target.stat(`${folder}/a/b`), { name: 'b', folder: true, size: 0 });
  t.ok(
    (await entries(target, '')).some(({ name }) => name === folder),
    "'' lists the top",
  );
  await refused(t, target.get(`${folder}/a`, { signal: never() }).then(read), [], 'a folder cannot be read');
  for (let i = 0; i < 50; i++) await store(target, `${folder}/many/${i}`, 'x');
  t.equal((await entries(target, `${folder}/many`)).length, 50);
}

/** The lock of a record needs these times: by them it tells a stale lock from one in use. */
async function times({ t, target, folder }: Bench): Promise<void> {
  for (const name of ['a', 'b']) await store(target, `${folder}/${name}`, name);
  await store(target, `${folder}/a`, 'again', true);
  const found = [];
  for await (const { modified } of target.list(folder, { modified: true })) found.push(modified);
  const known = found.filter((time) => time !== undefined);
  t.equal(found.length, 2);
  if (known.length === 0) return t.comment('the target does not tell times');
  t.equal(known.length, 2, 'of each file');
  t.ok(Math.max(...known) - Math.min(...known) < 60_000, `written in the same minute: ${known}`);
}

async function absent({ t, target, folder }: Bench): Promise<void> {
  t.equal(await target.stat(`${folder}/no`), undefined);
  t.equal(await target.stat(`${folder}/no/deeper`), undefined);
  t.same(await entries(target, `${folder}/no`), [], 'an absent folder is empty');
  await target.remove(`${folder}/no`);
  await target.remove(`${folder}/no/deeper`);
  await refused(t, target.get(`${folder}/no`, { signal: never() }).then(read), ['not_found'], 'get');
}

async function tree({ t, target, folder }: Bench): Promise<void> {
  for (const path of ['t/1', 't/a/2', 't/a/b/3', 't/-rf', 'keep']) await store(target, `${folder}/${path}`, path);
  await target.remove(`${folder}/t/1`);
  t.equal(await target.stat(`${folder}/t/1`), undefined, 'a file');
  await target.remove(`${folder}/t`);
  t.same(
    (await entries(target, folder)).map(({ name }) => name),
    ['keep'],
    'a tree, and only that',
  );
}

async function concurrent({ t, target, folder }: Bench): Promise<void> {
  const sizes = [1, 2, 3, 4, 5, 6, 7, 8].map((i) => i * 200_000 + i);
  await Promise.all(sizes.map((size) => target.put(`${folder}/x/y/${size}`, supply(size).stream, { signal: never() })));
  const read1 = (size: number) => target.get(`${folder}/x/y/${size}`, { signal: never() }).then(read);
  const all = await Promise.all(sizes.map(async (size) => (await read1(size)).equals(pattern(size))));
  t.same(
    all,
    sizes.map(() => true),
    'each has its own bytes',
  );
  const same = await Promise.allSettled([1, 2, 3].map((i) => store(target, `${folder}/same`, `${i}`)));
  t.ok(
    same.some(({ status }) => status === 'fulfilled'),
    'one of several puts of a name wins',
  );
  t.equal((await entries(target, folder)).length, 2, 'the others leave nothing');
}

async function space({ t, target }: Bench): Promise<void> {
  const space = await target.space();
  if (space === undefined) t.notOk(target.supports.freeSpace, 'not known, and said so');
  else t.ok(space.total > 0 && space.free >= 0 && space.free <= space.total, JSON.stringify(space));
}
