/** The sftp target while its connection or its server breaks. */
import { open, readdir, readFile, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { Entry, Target } from '../../core/contract/index.js';
import { isPart } from '../../plugins/shared/paths.js';
import { entries, failure, never, pattern, read, refused, store, supply } from '../conformance/target/support.js';
import { type Sshd, startSshd } from '../support/servers/sshd.js';
import { openSftp } from './sftp-open.js';

const size = 24 << 20;
const whole = pattern(size);

async function server(t: Pick<Test, 'teardown'>): Promise<{ sshd: Sshd; target: Target; reopen: () => Promise<Target> }> {
  const sshd = await startSshd({ user: true });
  t.teardown(() => sshd.stop());
  const reopen = () => openSftp(sshd, { password: sshd.password, base: '~' });
  const target = await reopen();
  t.teardown(() => target[Symbol.asyncDispose]());
  return { sshd, target, reopen };
}

/** A slow source, so that a test can break something meanwhile. Its promise resolves after so many bytes. The rest waits for `broken`. */
function paced(length: number, at: number, broken: Promise<void> = Promise.resolve()) {
  let reached: () => void = () => undefined;
  const there = new Promise<void>((resolve) => {
    reached = resolve;
  });
  const source = supply(length, { at: (given) => given >= at && reached() });
  const { _read } = source.stream;
  source.stream._read = function (bytes) {
    const give = () => setTimeout(() => _read.call(this, bytes), source.given() % (1 << 20) === 0 ? 10 : 0);
    if (source.given() < at) give();
    else broken.then(give);
  };
  return { stream: source.stream, there };
}

const partsIn = async (folder: string): Promise<string[]> => (await readdir(folder)).filter(isPart);

/** Starts first and is awaited last, because it takes as long as a put waits for a server that is away. */
const lost = (async () => {
  const { sshd, target, reopen } = await server(t);
  const { stream, there } = paced(size, 4 << 20);
  const work = failure(target.put('new/lost', stream, { signal: never() }));
  await there;
  await sshd.kill();
  const since = Date.now();
  const error = await work;
  return { sshd, target, reopen, error, took: Date.now() - since, destroyed: stream.destroyed };
})();
lost.catch(() => undefined);

t.test('a put resumes after the server was killed and restarted', async (t) => {
  const { sshd, target } = await server(t);
  const { stream, there } = paced(size, 4 << 20);
  const work = target.put('resumed', stream, { signal: never() });
  await there;
  await sshd.kill();
  await sleep(1_500);
  await sshd.start();
  t.same(await work, { bytes: size });
  t.ok((await readFile(join(sshd.home, 'resumed'))).equals(whole), 'the bytes are the same');
  t.same(await partsIn(sshd.home), []);
  t.equal((await sshd.log()).match(/Accepted password/g)?.length, 2, 'there was a second connection');
});

t.test('a put survives ten killed server processes', async (t) => {
  const { sshd, target } = await server(t);
  let kills = 0;
  const abort = new AbortController();
  const { stream, there } = paced(4 * size, 1);
  const work = target.put('killed', stream, { signal: never() });
  const killer = (async () => {
    await there;
    for (; kills < 10 && !abort.signal.aborted; kills++) {
      await sleep(20 + Math.random() * 150);
      await sshd.killConnections();
    }
  })();
  t.same(await work, { bytes: 4 * size });
  abort.abort();
  await killer;
  t.ok(kills > 3, `${kills} times`);
  t.ok((await readFile(join(sshd.home, 'killed'))).equals(pattern(4 * size)), 'the bytes are the same');
  t.same(await partsIn(sshd.home), []);
});

t.test('a put whose confirmed bytes are lost fails as damaged and leaves nothing', async (t) => {
  const { sshd, target } = await server(t);
  const harms = {
    'as zeros': async (part: string) => {
      const file = await open(part, 'r+');
      await file.write(Buffer.alloc(4_096), 0, 4_096, 8_192);
      await file.close();
    },
    'as nothing': (part: string) => truncate(part, 8_192),
  };
  for (const [title, harm] of Object.entries(harms)) {
    let goOn: () => void = () => undefined;
    const broken = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const { stream, there } = paced(size, 8 << 20, broken);
    const work = failure(target.put('harmed', stream, { signal: never() }));
    await there;
    await sshd.kill();
    goOn();
    const [part] = await partsIn(sshd.home);
    await harm(join(sshd.home, part ?? ''));
    await sshd.start();
    t.match(await work, { code: 'damaged', retryable: true }, title);
    t.same(await readdir(sshd.home), [], 'nothing stays');
  }
});

t.test('a get whose connection breaks fails as unavailable, and the next get continues', async (t) => {
  const { sshd, target } = await server(t);
  await store(target, 'f', whole);
  const stream = await target.get('f', { signal: never() });
  let seen = 0;
  const work = (async () => {
    for await (const chunk of stream) {
      seen += Buffer.from(chunk).length;
      if (seen >= 4 << 20) await sshd.killConnections();
      await sleep(1);
    }
  })();
  t.match(await failure(work), { code: 'unavailable', retryable: true });
  t.ok(seen < size, 'it never looks like the end');
  t.ok(
    (await read(await target.get('f', { signal: never(), offset: seen }))).equals(whole.subarray(seen)),
    'the next get goes on from there',
  );
});

t.test('a get of a file that shrinks fails', async (t) => {
  const { sshd, target } = await server(t);
  await store(target, 'f', whole);
  const stream = await target.get('f', { signal: never() });
  await truncate(join(sshd.home, 'f'), 1 << 20);
  t.match(await failure(read(stream)), { code: 'unavailable', retryable: true });
});

t.test('broken idle connections are reopened', async (t) => {
  const { sshd, target } = await server(t);
  await store(target, 'f', 'x');
  const calls: readonly (() => Promise<unknown>)[] = [
    () => target.stat('f'),
    () => entries(target, ''),
    () => target.space(),
    () => target.get('f', { signal: never() }).then(read),
    () => store(target, 'g', 'g', true),
    () => target.remove('g'),
  ];
  for (const call of calls) {
    await sshd.killConnections();
    await call();
  }
  t.same(
    (await entries(target, '')).map(({ name }) => name),
    ['f'],
  );
  await sshd.kill();
  t.match(await failure(target.stat('f')), { code: 'unavailable', retryable: true });
});

t.test('an abort settles while the server does not answer', async (t) => {
  const { sshd, target, reopen } = await server(t);
  await store(target, 'kept', 'kept');
  for (const at of [0, 4 << 20]) {
    const abort = new AbortController();
    const { stream, there } = paced(size, at);
    if (at === 0) await sshd.pause();
    const work = target.put('new/hung', stream, { signal: abort.signal });
    work.catch(() => undefined);
    await (at === 0 ? sleep(100) : there);
    await sshd.pause();
    await sleep(200);
    const since = Date.now();
    abort.abort();
    await refused(t, work, ['aborted'], `put after ${at} bytes`);
    t.ok(Date.now() - since < 5_000, `it settled after ${Date.now() - since} ms`);
    t.ok(stream.destroyed);
    const reading = new AbortController();
    const got = target.get('kept', { signal: reading.signal });
    reading.abort();
    await refused(t, got, ['aborted'], 'get');
    await sshd.resume();
    await sleep(500);
  }
  await using other = await reopen();
  t.same(await entries(other, 'new'), [], 'a reader sees nothing');
});

t.test('a put to a server that stays down fails in time and leaves an unfinished upload', async (t) => {
  const { sshd, target, reopen, error, took, destroyed } = await lost;
  t.match(error, { code: 'unavailable', retryable: true });
  t.ok(took < 55_000, `it gave up after ${took} ms`);
  t.ok(destroyed, 'the source is given back');
  await sshd.start();
  await using other = await reopen();
  for (const one of [target, other]) {
    t.same(await entries(one, 'new'), [], 'a reader sees nothing');
    const left: Entry[] = [];
    for await (const entry of one.list('new', { unfinished: true })) left.push(entry);
    t.match(left, [{ folder: false, unfinished: true }]);
    const [part] = left;
    t.equal(part?.size, (await stat(join(sshd.home, 'new', part?.name ?? ''))).size);
  }
  for await (const { name } of other.list('new', { unfinished: true })) await other.remove(`new/${name}`);
  t.same(await readdir(join(sshd.home, 'new')), []);
});
