import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import { type Entry, PluginError, type Target } from '../../core/contract/index.js';
import type { RsyncOptions } from '../../plugins/targets/rsync/index.js';
import { digest, never, pattern, read, refused, store, supply } from '../conformance/target/support.js';
import { type Sshd, type SshdOptions, startSshd } from '../support/servers/sshd.js';
import { openRsync } from './rsync-open.js';

const run = promisify(execFile);
const stateFolder = await mkdtemp(join(tmpdir(), 'rsync-faults-'));
t.teardown(() => rm(stateFolder, { recursive: true, force: true }));

interface Owner {
  teardown(work: () => Promise<unknown>): void;
}
interface Bed {
  readonly sshd: Sshd;
  /** Folder of the target on the server. */
  readonly folder: string;
  open(more?: Partial<RsyncOptions>): Promise<Target>;
  /** Makes the login the owner of what the suite has put there. */
  own(): Promise<unknown>;
}

async function bed(owner: Owner, o: SshdOptions = {}, base = 'place'): Promise<Bed> {
  const sshd = await startSshd({ user: true, ...o });
  owner.teardown(() => sshd.stop());
  const { privateKey } = await sshd.newKey('ed25519');
  const open = (more = {}) => openRsync(sshd, stateFolder, { privateKey, base: join(sshd.home, base).slice(1), ...more });
  const own = () => run('chown', ['-R', sshd.user, join(sshd.home, base)]);
  return { sshd, folder: join(sshd.home, base), open, own };
}

const code = (error: unknown): string => (error instanceof PluginError ? error.code : String(error));

async function unfinished(target: Target, path: string): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of target.list(path, { unfinished: true })) if (entry.unfinished) found.push(entry);
  return found;
}
async function names(target: Target, path: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of target.list(path)) found.push(name);
  return found.sort();
}
/** The sizes of staged pieces. The notes of folders on the server lie beside the folders of pieces. */
const staged = async (): Promise<string[]> => {
  const { stdout } = await run('find', [stateFolder, '-path', '*/stage-*', '-type', 'f', '-printf', '%s\n']);
  return stdout.split('\n').filter((line) => line !== '');
};

t.test('a large file is stored in pieces', { timeout: 120_000 }, async (t) => {
  const { open, folder, own } = await bed(t);
  await using target = await open({ pieceMiB: 1 });
  const size = (3 << 20) + 5;

  await t.test('cat joins the pieces into the file', async (t) => {
    const stored = await target.put('a/big', supply(size).stream, { signal: never() });
    t.same(stored, { bytes: size, pieces: { folder: 'a/big.pieces', count: 4 } });
    await run('sh', ['-c', 'cat "$1"/big.pieces/* > "$1"/joined', 'sh', join(folder, 'a')]);
    t.ok((await readFile(join(folder, 'a/joined'))).equals(pattern(size)), 'by cat');
    await rm(join(folder, 'a/joined'));
    t.same(await names(target, 'a'), ['big'], 'one file is listed');
    t.equal((await target.stat('a/big'))?.size, size);
    for (const o of [
      { offset: (1 << 20) - 3, length: 7 },
      { offset: (3 << 20) + 1 },
      { offset: 2 << 20, length: 1 << 20 },
      { length: 1 },
    ]) {
      const end = o.offset === undefined ? o.length : o.length === undefined ? undefined : o.offset + o.length;
      const bytes = await read(await target.get('a/big', { signal: never(), ...o }));
      t.ok(bytes.equals(pattern(size).subarray(o.offset, end)), JSON.stringify(o));
    }
  });

  await t.test('a small file replaces a large one, and a large one a small one', async (t) => {
    await store(target, 'a/big', 'small', true);
    t.equal(String(await read(await target.get('a/big', { signal: never() }))), 'small');
    t.same(await readdir(join(folder, 'a')), ['big'], 'the pieces are gone');
    await refused(t, target.put('a/big', supply(size).stream, { signal: never() }), ['exists'], 'without replace');
    await target.put('a/big', supply(size).stream, { signal: never(), replace: true });
    t.same(await readdir(join(folder, 'a')), ['big.pieces'], 'the small one is gone');
    await target.put('a/big', supply(size - 9).stream, { signal: never(), replace: true });
    t.ok((await read(await target.get('a/big', { signal: never() }))).equals(pattern(size - 9)), 'large by large');
    t.equal((await readdir(join(folder, 'a/big.pieces'))).length, 4, 'one generation is there');
    await refused(t, store(target, 'a/big', 'small'), ['exists'], 'small without replace');
    await refused(t, store(target, 'a/big/below', 'x'), ['invalid'], 'a file is no folder');
    await target.remove('a/big');
    t.same(await readdir(join(folder, 'a')), [], 'removed with all its pieces');
  });

  await t.test('folders of other programs stay folders, and incomplete pieces are unfinished uploads', async (t) => {
    await mkdir(join(folder, 'b/photos.pieces'), { recursive: true });
    await writeFile(join(folder, 'b/photos.pieces/cat.jpg'), 'x');
    await mkdir(join(folder, 'b/lost.pieces'));
    await writeFile(join(folder, 'b/lost.pieces/0001-000001'), 'x');
    await writeFile(join(folder, 'b/.X.backup'), 'x');
    await own();
    t.same(await names(target, 'b'), ['.X.backup', 'photos.pieces'], 'a folder of somebody else stays one');
    t.same(await unfinished(target, 'b'), [{ name: 'lost.pieces', folder: true, size: 0, unfinished: true }]);
    t.equal(await target.stat('b/lost'), undefined);
    await refused(t, target.get('b/lost', { signal: never() }), ['not_found'], 'get');
    await target.remove('b/lost.pieces');
    t.same((await readdir(join(folder, 'b'))).sort(), ['.X.backup', 'photos.pieces']);
    for (const name of ['x.pieces', 'x.pieces/y']) await refused(t, store(target, name, 'x'), ['invalid'], name);
  });

  await t.test('a changed or missing piece is damage', async (t) => {
    await target.put('c', supply(size).stream, { signal: never() });
    const [, first = ''] = await readdir(join(folder, 'c.pieces'));
    await writeFile(join(folder, 'c.pieces', first), 'short');
    await refused(t, target.get('c', { signal: never() }).then(read), ['damaged'], 'another size');
    await rm(join(folder, 'c.pieces', first));
    await refused(t, target.get('c', { signal: never() }).then(read), ['damaged'], 'gone');
    await target.remove('c');
  });

  await t.test('ranges of a large file of another program can be read', async (t) => {
    await writeFile(join(folder, 'foreign'), pattern(size));
    for (const o of [{}, { offset: 5, length: 2 << 20 }, { offset: size - 1 }, { offset: size }, { offset: 1 << 20, length: 0 }]) {
      const [from, to] = [o.offset ?? 0, (o.offset ?? 0) + (o.length ?? size)];
      t.ok(
        (await read(await target.get('foreign', { signal: never(), ...o }))).equals(pattern(size).subarray(from, to)),
        JSON.stringify(o),
      );
    }
    await symlink('/etc/passwd', join(folder, 'link'));
    await refused(t, target.get('link', { signal: never() }).then(read), ['invalid'], 'a link is not followed');
  });

  await t.test('names with newlines, escapes and patterns are stored as they are', async (t) => {
    for (const name of [
      'a\nb',
      'a\\#012b',
      '\\#134',
      '#comment',
      ';comment',
      'tab\there',
      'a:b',
      '~',
      '$(touch x)',
      ' ',
      'end ',
      '{a,b}',
    ]) {
      await store(target, `odd/${name}`, name);
      t.equal(String(await read(await target.get(`odd/${name}`, { signal: never() }))), name, JSON.stringify(name));
    }
    t.equal((await names(target, 'odd')).length, 12);
    t.ok((await names(target, 'odd')).includes('a\nb'));
    await target.remove('odd/*');
    await target.remove('odd/[a]*');
    await target.remove('odd/a?b');
    t.equal((await readdir(join(folder, 'odd'))).length, 12, 'no name is a pattern');
    await target.remove('odd');
    t.equal((await readdir(folder)).includes('odd'), false);
  });
});

t.test('the staging folder holds at most two pieces and is empty afterwards', { timeout: 120_000 }, async (t) => {
  const { open } = await bed(t);
  await using target = await open({ pieceMiB: 16 });
  let most = 0;
  const watch = async (): Promise<void> => {
    const sizes = (await staged()).map(Number);
    most = Math.max(
      most,
      sizes.reduce((sum, size) => sum + size, 0),
    );
  };
  const watching = setInterval(() => void watch().catch(() => undefined), 25);
  const block = Buffer.alloc(1 << 20, 'x');
  await target.put('big', Readable.from(Array.from({ length: 300 }, () => block)), { signal: never() });
  t.ok(most > 16 << 20 && most <= 32 << 20, `${most} bytes while it was stored`);
  most = 0;
  t.equal(
    await digest(await target.get('big', { signal: never() })),
    await digest(Readable.from(Array.from({ length: 300 }, () => block))),
  );
  t.ok(most > 16 << 20 && most <= 32 << 20, `${most} bytes while it was read`);
  clearInterval(watching);
  t.same(await staged(), [], 'nothing is left');
});

t.test('a put and a get survive killed connections', { timeout: 200_000 }, async (t) => {
  const { sshd, open } = await bed(t);
  await using target = await open({ pieceMiB: 4 });
  const size = 96 << 20;
  let killed = 0;
  const killer = async (done: AbortSignal): Promise<void> => {
    while (killed < 10 && !done.aborted) {
      await sleep(200 + Math.random() * 1_300);
      await sshd.killConnections();
      killed++;
    }
  };
  // slow enough that all ten kills happen meanwhile
  const slow = async function* () {
    for (let at = 0; at < size; at += 1 << 20) {
      await sleep(killed < 10 ? 140 : 0);
      yield pattern(1 << 20, at);
    }
  };
  const done = new AbortController();
  const killing = killer(done.signal);
  const stored = await target.put('big', Readable.from(slow(), { highWaterMark: 1 }), { signal: never() });
  t.equal(stored.bytes, size);
  done.abort();
  await killing;
  t.ok(killed >= 5, `${killed} connections were killed`);
  killed = 7;
  const again = new AbortController();
  const more = killer(again.signal);
  const hash = await digest(await target.get('big', { signal: never() }));
  again.abort();
  await more;
  t.equal(hash, await digest(supply(size).stream), 'the bytes are the same');
});

t.test('a put to a server that stays down fails as unavailable and lists nothing', { timeout: 200_000 }, async (t) => {
  const { sshd, open, folder } = await bed(t);
  const target = await open({ pieceMiB: 1 });
  const source = supply(64 << 20, { at: (given) => given === 8 << 20 && void sshd.kill() });
  const started = Date.now();
  const error: unknown = await target.put('a/big', source.stream, { signal: never() }).then(
    () => undefined,
    (error: unknown) => error,
  );
  t.equal(code(error), 'unavailable');
  t.ok(error instanceof PluginError && error.retryable, 'it may be tried again');
  t.ok(Date.now() - started < 60_000, `after ${Date.now() - started} ms`);
  t.ok(source.stream.destroyed);
  t.same(await staged(), [], 'nothing is left here');
  await target[Symbol.asyncDispose]();
  t.same(await readdir(join(folder, 'a')), ['big.pieces'], 'but there');
  await sshd.start();
  await using other = await open({ pieceMiB: 1 });
  t.same(await names(other, 'a'), [], 'it is not listed');
  t.same(await unfinished(other, 'a'), [{ name: 'big.pieces', folder: true, size: 0, unfinished: true }], 'but to whoever asks');
  const [left] = await unfinished(other, '');
  t.ok(left === undefined || left.name.endsWith('.part'), 'and so is the folder of what is being written');
  await other.put('a/big', supply(2 << 20).stream, { signal: never() });
  t.equal((await other.stat('a/big'))?.size, 2 << 20, 'it does not stand in the way');
  await other.remove('a/big');
  t.same(await unfinished(other, 'a'), [], 'removed');
});
