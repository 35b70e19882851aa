import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Target } from '../../core/contract/index.js';
import plugin, { type RsyncOptions } from '../../plugins/targets/rsync/index.js';
import { failure, never, pattern, read, refused, store, supply } from '../conformance/target/support.js';
import { type Sshd, type SshdOptions, startSshd } from '../support/servers/sshd.js';
import { openRsync } from './rsync-open.js';

const stateFolder = await mkdtemp(join(tmpdir(), 'rsync-errors-'));
t.teardown(() => rm(stateFolder, { recursive: true, force: true }));

interface Owner {
  teardown(work: () => Promise<unknown>): void;
}
interface Bed {
  readonly sshd: Sshd;
  readonly said: string[];
  open(more?: Partial<RsyncOptions>): Promise<Target>;
}

async function bed(owner: Owner, o: SshdOptions = {}): Promise<Bed> {
  const sshd = await startSshd({ user: true, ...o });
  owner.teardown(() => sshd.stop());
  const said: string[] = [];
  const log = (_: string, message: string) => said.push(message);
  const { password } = sshd;
  const open = (more = {}) => openRsync(sshd, stateFolder, { password, base: '~/place', log, ...more });
  return { sshd, said, open };
}

/** A server whose key runs only this command (command= in authorized_keys). $SSH_ORIGINAL_COMMAND is the requested one. */
const forced = (command: string): SshdOptions => ({ config: [`ForceCommand ${command}`] });

t.test('wrong logins, host keys, ports and bases are refused with a code', async (t) => {
  const { sshd, open } = await bed(t);
  const wrong = await failure(open({ password: 'not the password' }));
  t.equal(wrong.code, 'denied');
  t.notMatch(wrong.message, /not the password/);
  t.match(wrong.message, sshd.host);
  t.equal((await failure(open({ hostKey: `SHA256:${'A'.repeat(43)}` }))).code, 'untrusted');
  const away = await failure(open({ port: 1 }));
  t.same([away.code, away.retryable], ['unavailable', true]);
  await refused(t, open({ base: 'back*ups' }), ['invalid'], 'a base that a shell would take for a pattern');
  await refused(t, open({ base: 'a/../b' }), ['invalid'], 'a base that leads out');
  const options = { host: sshd.host, port: sshd.port, username: 'nobody' };
  const pinned = await plugin.pin?.({ options, stateFolder, signal: never(), log: () => undefined });
  t.same(pinned, { hostKey: sshd.fingerprints.ed25519 });
  await using target = await open();
  t.match(target.server, /^SSH-2\.0-/);
  t.notMatch(await sshd.log(), sshd.password);
});

t.test('a server without rsync is unsupported', async (t) => {
  const { open } = await bed(t, forced('PATH=/nowhere; $SSH_ORIGINAL_COMMAND'));
  const error = await failure(open());
  t.equal(error.code, 'unsupported');
  t.match(error.message, /install rsync/);
});

t.test('a login that prints more than rsync is unsupported', async (t) => {
  const { open } = await bed(t, forced('echo Welcome to this server; eval "$SSH_ORIGINAL_COMMAND"'));
  const error = await failure(open());
  t.equal(error.code, 'unsupported');
  t.match(error.message, /print nothing/);
});

t.test('a login without the right to run rsync is unsupported', async (t) => {
  const { open } = await bed(t, forced('exit 3'));
  t.equal((await failure(open())).code, 'unsupported');
});

t.test('rrsync with -ro or -no-del refuses what it forbids with the right code', async (t) => {
  const readOnly = await bed(t, forced('/usr/bin/rrsync -ro %F/home'));
  {
    await mkdir(join(readOnly.sshd.home, 'place'));
    await writeFile(join(readOnly.sshd.home, 'place/there'), 'there');
    await using target = await readOnly.open();
    t.equal(String(await read(await target.get('there', { signal: never() }))), 'there', 'it can be read');
    await refused(t, store(target, 'x', 'x'), ['read_only'], 'put');
    await refused(t, target.remove('there'), ['read_only'], 'remove');
  }
  const keeping = await bed(t, forced('/usr/bin/rrsync -no-del %F/home'));
  await using target = await keeping.open();
  await store(target, 'x', 'x');
  const error = await failure(target.remove('x'));
  t.equal(error.code, 'denied');
  t.match(error.message, /-no-del/);
});

t.test('a put into a folder without write permission is denied', async (t) => {
  const { open, sshd } = await bed(t);
  await using target = await open({ base: sshd.folder.slice(1) });
  const error = await failure(store(target, 'x/y', 'x'));
  t.equal(error.code, 'denied');
  t.match(error.message, sshd.host);
});

t.test('an rsync without --fsync works, and the log says so once', async (t) => {
  const command =
    'case $SSH_ORIGINAL_COMMAND in *--fsync*) echo "rsync: --fsync: unknown option" >&2; exit 1;; esac; eval "$SSH_ORIGINAL_COMMAND"';
  const { open, said } = await bed(t, forced(command));
  await using target = await open({ pieceMiB: 1 });
  await target.put('a/b', supply(3 << 20).stream, { signal: never() });
  t.ok((await read(await target.get('a/b', { signal: never() }))).equals(pattern(3 << 20)));
  t.equal(said.filter((text) => /too old/.test(text)).length, 1, 'it is said once');
});

t.test('a server with one channel per connection works', async (t) => {
  const { open } = await bed(t, { config: ['MaxSessions 1'] });
  await using target = await open({ pieceMiB: 1 });
  await Promise.all([1, 2, 3].map((i) => target.put(`a/${i}`, supply(i << 20).stream, { signal: never() })));
  t.equal((await target.stat('a/3'))?.size, 3 << 20);
  t.ok((await read(await target.get('a/3', { signal: never() }))).equals(pattern(3 << 20)));
});

t.test('an abort and a dispose settle while the server hangs', { timeout: 100_000 }, async (t) => {
  const { open, sshd } = await bed(t);
  const target = await open({ pieceMiB: 1 });
  await store(target, 'here', 'here');
  const settled = async (work: (signal: AbortSignal) => Promise<unknown>, what: string): Promise<void> => {
    const abort = new AbortController();
    const working = work(abort.signal);
    working.catch(() => undefined);
    await sleep(300);
    await sshd.pause();
    await sleep(500);
    const started = Date.now();
    abort.abort();
    await refused(t, working, ['aborted'], what);
    t.ok(Date.now() - started < 5_000, `settled after ${Date.now() - started} ms`);
    await sshd.resume();
  };
  await settled((signal) => target.put('big', supply(Number.MAX_SAFE_INTEGER).stream, { signal }), 'a put');
  await settled((signal) => target.put('small', supply(10, { end: 'stall' }).stream, { signal }), 'a put that has sent nothing');
  await target.put('big', supply(40 << 20).stream, { signal: never(), replace: true });
  await settled(
    async (signal) => read(await target.get('big', { signal })).then(() => sleep(60_000, undefined, { signal })),
    'a get',
  ).catch(() => undefined);
  await sshd.pause();
  const started = Date.now();
  await target[Symbol.asyncDispose]();
  t.ok(Date.now() - started < 5_000, `disposed after ${Date.now() - started} ms`);
  await sshd.resume();
});

t.test('the staging folder of a dead process is removed', async (t) => {
  const { open } = await bed(t);
  const dead = join(stateFolder, `stage-${2 ** 22 + 1}-123-${'a'.repeat(16)}`);
  const reused = join(stateFolder, `stage-${process.pid}-1-${'b'.repeat(16)}`);
  for (const folder of [dead, reused]) {
    await mkdir(join(folder, '1'), { recursive: true });
    await writeFile(join(folder, '1/1'), 'x');
  }
  await using first = await open();
  await using second = await open();
  const stages = (await readdir(stateFolder)).filter((name) => name.startsWith('stage-'));
  t.equal(stages.length, 2, 'only what is open is there');
  await store(first, 'a', 'a');
  await store(second, 'b', 'b');
});

t.test('the next target removes the upload folder that a hanging server kept', async (t) => {
  const { sshd } = await bed(t);
  const notes = await mkdtemp(join(tmpdir(), 'rsync-notes-'));
  t.teardown(() => rm(notes, { recursive: true, force: true }));
  const open = () => openRsync(sshd, notes, { password: sshd.password, base: '~/place' });
  const temps = async () => (await readdir(join(sshd.home, 'place'))).filter((name) => name.endsWith('.part'));
  const first = await open();
  await store(first, 'a', 'a');
  t.equal((await temps()).length, 1, 'a target that writes has one');
  await sshd.pause();
  await first[Symbol.asyncDispose]();
  await sshd.resume();
  t.equal((await temps()).length, 1, 'and could not remove it');
  const second = await open();
  await store(second, 'b', 'b');
  const third = await open();
  await store(third, 'c', 'c');
  t.equal((await temps()).length, 2, 'only those of open targets are there');
  await third[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
  t.same(await temps(), [], 'none is left');
  t.same(await readdir(notes), [], 'nor a note of one');
});
