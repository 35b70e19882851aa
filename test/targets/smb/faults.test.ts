import { readdir, readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { type Entry, PluginError, type Target } from '../../../core/contract/index.js';
import { entries, never, pattern, read, refused, store, supply } from '../../conformance/target/support.js';
import { openSmb, Smbd, stateFolder } from '../../support/servers/smbd.js';

const state = await stateFolder(t);
const smbd = await Smbd.start({ password: 'S3cret-of-this-suite' });
t.teardown(() => smbd[Symbol.asyncDispose]());

async function unfinished(target: Target, path: string): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of target.list(path, { unfinished: true })) if (entry.unfinished) found.push(entry);
  return found;
}

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

/** Pids of the smbclients that this process started. */
async function clients(): Promise<number[]> {
  const found: number[] = [];
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(parent) === process.pid && stat.includes('(smbclient)') && state !== 'Z') found.push(Number(name));
  }
  return found;
}

t.test('a put to a server that dies fails as unavailable and lists no file', async (t) => {
  for (const [before, after] of [
    [1, 1 << 20],
    [1 << 20, 0],
    [(8 << 20) + 5, 4 << 20],
  ] as const) {
    await using target = await openSmb(smbd, state);
    async function* source() {
      yield pattern(before);
      await sleep(150);
      await smbd.kill();
      yield pattern(after);
    }
    const error = await failure(target.put('dead/file', Readable.from(source()), { signal: never() }));
    t.match(error, { code: 'unavailable', retryable: true }, `after ${before} bytes`);
    await refused(t, target.stat('dead/file'), ['unavailable'], 'stat of a dead server');
    await refused(t, entries(target, 'dead'), ['unavailable'], 'it does not look empty');
    await smbd.again();
    t.same(await entries(target, 'dead'), [], 'nothing under the name');
    const left = await unfinished(target, 'dead');
    t.equal(left.length, 1, 'what could not be taken back is listed as unfinished');
    for (const { name } of left) await target.remove(`dead/${name}`);
    t.same(await unfinished(target, 'dead'), [], 'and can be removed');
  }
});

t.test('broken connections are reopened, and a put stores all or nothing', async (t) => {
  await using target = await openSmb(smbd, state);
  await store(target, 'cut/old', 'old');
  await smbd.killConnections();
  t.equal((await target.stat('cut/old'))?.size, 3, 'questions are asked again');
  const size = 24 << 20;
  for (const at of [1 << 20, 12 << 20, size]) {
    let killing: Promise<void> | undefined;
    const source = supply(size, {
      at: (given) => {
        if (given >= at) killing ??= smbd.killConnections();
      },
    });
    const error = await failure(target.put(`cut/${at}`, source.stream, { signal: never() }));
    await killing;
    const there = await target.stat(`cut/${at}`);
    if (error === undefined) t.equal(there?.size, size, 'all is there');
    else {
      t.match(error, { retryable: true });
      t.equal(there, undefined, `nothing is there after ${at}`);
    }
    await sleep(300);
    t.same(await unfinished(target, 'cut'), [], 'and nothing was left: the server could be asked');
  }
  await target.remove('cut');
});

t.test('a get that breaks fails, it never just ends', async (t) => {
  await using target = await openSmb(smbd, state);
  const size = 48 << 20;
  await target.put('broken', supply(size).stream, { signal: never() });
  const idle = new Set(await clients());
  const ways = [
    () => smbd.killConnections(),
    async () => {
      for (const pid of await clients()) if (!idle.has(pid)) process.kill(pid, 'SIGKILL');
    },
  ];
  for (const way of ways) {
    const stream = await target.get('broken', { signal: never() });
    await new Promise<void>((resolve) => stream.once('readable', resolve));
    await way();
    t.match(await failure(read(stream)), { code: 'unavailable', retryable: true });
  }
  t.equal((await read(await target.get('broken', { signal: never() }))).length, size);
});

t.test('a put whose smbclient is killed fails and leaves nothing', async (t) => {
  await using target = await openSmb(smbd, state);
  await store(target, 'client/a', 'a');
  const source = supply(2 << 20, { end: 'stall' });
  const work = failure(target.put('client/b', source.stream, { signal: never() }));
  await sleep(500);
  for (const pid of await clients()) process.kill(pid, 'SIGKILL');
  t.match(await work, { code: 'unavailable', retryable: true });
  t.same(
    (await entries(target, 'client')).map(({ name }) => name),
    ['a'],
  );
  t.same(await unfinished(target, 'client'), []);
});

t.test('an abort and a stat settle while the server hangs', async (t) => {
  await using target = await openSmb(smbd, state);
  await store(target, 'hang/a', 'a');
  const abort = new AbortController();
  const work = failure(target.put('hang/b', supply(64 << 20, { end: 'stall' }).stream, abort));
  await sleep(300);
  await smbd.pause();
  await sleep(200);
  const started = Date.now();
  abort.abort();
  t.match(await work, { code: 'aborted' });
  t.ok(Date.now() - started < 5_000, `settled after ${Date.now() - started} ms`);
  const asked = Date.now();
  await refused(t, target.stat('hang/a'), ['unavailable'], 'a question');
  t.ok(Date.now() - asked < 25_000, `answered after ${Date.now() - asked} ms`);
  const early = new AbortController();
  const begun = Date.now();
  const put = failure(target.put('hang/c', Readable.from(['c']), early));
  setTimeout(() => early.abort(), 200);
  t.match(await put, { code: 'aborted' });
  t.ok(Date.now() - begun < 5_500, 'an abort before anything is sent settles too');
  await smbd.continue();
  t.same(
    (await entries(target, 'hang')).map(({ name }) => name),
    ['a'],
  );
  for (const { name } of await unfinished(target, 'hang')) await target.remove(`hang/${name}`);
  await target.remove('hang');
});

t.test('the password is in no argument, environment, file or error', async (t) => {
  await using target = await openSmb(smbd, state);
  const abort = new AbortController();
  const work = failure(target.put('secret', supply(1 << 20, { end: 'stall' }).stream, abort));
  for (let i = 0; i < 10; i++) {
    await sleep(20);
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const texts = ['cmdline', 'environ'].map((name) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => ''));
      if ((await Promise.all(texts)).some((text) => text.includes(smbd.password))) t.fail(`process ${pid} shows it`);
    }
    t.same(await readdir(state), [], 'no file of the plugin');
  }
  t.ok((await clients()).length >= 2, 'smbclient was running');
  abort.abort();
  await work;
  const error = await failure(openSmb(smbd, state, { password: `${smbd.password}x` }));
  t.ok(error instanceof PluginError && !`${error.stack} ${String(error.cause)}`.includes(smbd.password), 'nor in an error');
});

t.test('a dispose ends every smbclient', async (t) => {
  const target = await openSmb(smbd, state);
  await target.put('end', Readable.from([pattern(1 << 20)]), { signal: never() });
  await target[Symbol.asyncDispose]();
  await sleep(200);
  t.same(await clients(), []);
  await refused(t, target.stat('end'), ['aborted'], 'used after that');
});
