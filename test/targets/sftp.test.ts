import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { Target } from '../../core/contract/index.js';
import sftp from '../../plugins/targets/sftp/index.js';
import { targetConformance } from '../conformance/index.js';
import { entries, failure, never, read, refused, store } from '../conformance/target/support.js';
import { type Sshd, type SshdOptions, startSshd } from '../support/servers/sshd.js';
import { contextOf, openSftp } from './sftp-open.js';

const run = promisify(execFile);

async function server(t: Pick<Test, 'teardown'>, o: SshdOptions = {}): Promise<Sshd> {
  const started = await startSshd({ user: true, ...o });
  t.teardown(() => started.stop());
  return started;
}

/** A small file system in memory (tmpfs). */
async function mounted(t: Pick<Test, 'teardown'>, at: string, owner: Sshd): Promise<void> {
  await mkdir(at);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', at]);
  t.teardown(() => run('umount', ['-l', at]));
  await give(at, owner);
}

async function give(path: string, owner: Sshd): Promise<void> {
  const [uid, gid] = await Promise.all(['-u', '-g'].map(async (option) => Number((await run('id', [option, owner.user])).stdout)));
  await chown(path, uid ?? 0, gid ?? 0);
}

/** The usual login for backups: a user who may only use sftp, in a chroot. */
const chroot = await server(t, { config: ['ForceCommand internal-sftp', 'ChrootDirectory %F/jail'] });
const jail = join(chroot.folder, 'jail');
await mkdir(join(jail, 'data'), { recursive: true });
await chmod(jail, 0o755);
await give(join(jail, 'data'), chroot);
await mounted(t, join(jail, 'small'), chroot);

/** A login with a shell, and sftp-server as a program of its own. */
const plain = await server(t, { config: ['Subsystem sftp /usr/lib/openssh/sftp-server'] });
const key = await plain.newKey('ed25519', { passphrase: 'not a secret' });
const { password } = plain;

targetConformance({
  name: 'sftp, chroot and password',
  open: () => openSftp(chroot, { password: chroot.password, base: 'data/some/base' }),
  openFull: () => openSftp(chroot, { password: chroot.password, base: 'small' }),
});
targetConformance({ name: 'sftp, key', open: () => openSftp(plain, { ...key, base: '~/base' }), openFull: 'elsewhere', large: 64 << 20 });

async function works(t: Test, opening: Promise<Target>, what: string): Promise<void> {
  await using target = await opening;
  await store(target, 'works/file', what, true);
  t.equal(String(await read(await target.get('works/file', { signal: never() }))), what, what);
}

t.test('passwords, keyboard-interactive and keys of each type log in', async (t) => {
  const asking = await server(t, { config: ['UsePAM yes', 'KbdInteractiveAuthentication yes', 'PasswordAuthentication no'] });
  await works(t, openSftp(asking, { password: asking.password, base: '~' }), 'keyboard-interactive');
  await refused(t, openSftp(asking, { password: 'wrong' }), ['denied'], 'keyboard-interactive, wrong password');
  for (const type of ['rsa', 'ecdsa'] as const)
    await works(t, openSftp(plain, { ...(await plain.newKey(type)), base: '~' }), `${type} key`);
  const pem = await plain.newKey('rsa', { passphrase: 'not a secret', pem: true });
  await works(t, openSftp(plain, { ...pem, base: '~' }), 'rsa key as PEM with passphrase');
  const both = await server(t, { config: ['AuthenticationMethods publickey,password'] });
  await works(t, openSftp(both, { ...(await both.newKey('ed25519')), password: both.password, base: '~' }), 'a key and then a password');
});

t.test('wrong passwords, keys and passphrases are refused without their text', async (t) => {
  const wrong = await failure(openSftp(plain, { password: 'guessed' }));
  t.match(wrong, { code: 'denied', retryable: false, message: /the server accepts .*password.*; correct options/ });
  t.notMatch(wrong.message, /guessed/);
  const other = await plain.newKey('ed25519', { allowed: false });
  await refused(t, openSftp(plain, other), ['denied'], 'a key that is not allowed');
  await refused(t, openSftp(plain, { ...key, passphrase: 'wrong' }), ['denied'], 'a wrong passphrase');
  await refused(t, openSftp(plain, { privateKey: key.privateKey }), ['invalid'], 'no passphrase');
  const broken = await failure(openSftp(plain, { privateKey: 'PRIVATE-TEXT' }));
  t.equal(broken.code, 'invalid');
  t.notMatch(broken.message, /PRIVATE-TEXT/);
  await refused(t, openSftp(plain, {}), ['denied'], 'no secret at all');
});

t.test('an unreachable server is unavailable, and the message names host and port', async (t) => {
  t.match(await failure(openSftp(plain, { password, port: 1 })), {
    code: 'unavailable',
    retryable: true,
    message: /127\.0\.0\.1:1: .*port/,
  });
  t.match(await failure(openSftp(plain, { password, host: 'no.invalid' })), { code: 'unavailable', retryable: true });
  t.match(await failure(openSftp(plain, { password, base: '~' }, AbortSignal.abort())), { code: 'aborted' });
});

t.test('the host key is pinned at first contact, and another key is untrusted', async (t) => {
  const own = await server(t);
  const { host, port, user: username, password } = own;
  const before = own.fingerprints;
  t.same(await sftp.pin?.(contextOf({ host, port, username })), { hostKey: before.ed25519 }, 'what is pinned at first contact');
  await works(t, openSftp(own, { password, hostKey: before.rsa, base: '~' }), 'the fingerprint of another of its keys');
  t.match(await failure(sftp.open(contextOf({ host, port, username, password }))), { code: 'untrusted', message: /options\.hostKey/ });
  await using open = await openSftp(own, { password, base: '~' });
  await own.kill();
  await own.newHostKeys();
  await own.start();
  for (const hostKey of [before.ed25519, before.rsa]) {
    const changed = await failure(openSftp(own, { password, hostKey }));
    t.match(changed, { code: 'untrusted', retryable: false });
    t.ok(changed.message.includes(hostKey) && changed.message.includes(own.fingerprints.ed25519), changed.message);
    t.match(changed.message, `PUT options.hostKey = ${own.fingerprints.ed25519}`);
  }
  t.equal((await failure(open.stat('x'))).code, 'untrusted', 'an open target notices it too');
});

t.test('detection finds an SSH server and nothing else', async (t) => {
  const detection = sftp.detection;
  t.equal(detection?.port, 22);
  t.equal(await detection?.answers(plain.host, plain.port, never()), true);
  t.equal(await detection?.answers(plain.host, 1, never()), false, 'nothing there');
  t.equal(await detection?.answers('no.invalid', 22, never()), false, 'no such host');
});

t.test('IPv6 addresses work with and without brackets', async (t) => {
  const own = await server(t, { listen: '::1' });
  const { password } = own;
  for (const host of ['::1', '[::1]']) await works(t, openSftp(own, { password, host, base: '~' }), host);
  t.match((await failure(openSftp(own, { password, port: 1 }))).message, /^\[::1\]:1: /);
});

t.test('a base is the home, a folder below it or an absolute path, and a wrong one is refused', async (t) => {
  await works(t, openSftp(plain, { password, base: '~' }), 'the home folder');
  await works(t, openSftp(plain, { password, base: '~/made/for it' }), 'a folder below it');
  await works(t, openSftp(plain, { password, base: `${plain.home.slice(1)}/absolute` }), 'an absolute path');
  t.ok((await readdir(plain.home)).includes('made'));
  await writeFile(join(plain.home, 'file'), '');
  await refused(t, openSftp(plain, { password, base: '~/file' }), ['invalid'], 'a file');
  await mkdir(join(plain.folder, 'closed'), { mode: 0o700 });
  await refused(t, openSftp(plain, { password, base: `${plain.folder.slice(1)}/closed/x` }), ['denied'], 'a forbidden folder');
  await using top = await openSftp(plain, { password });
  t.equal(
    top.server,
    (await run('bash', ['-c', `head -n1 < /dev/tcp/127.0.0.1/${plain.port}`])).stdout.trim(),
    'what the server says of itself',
  );
  await refused(t, store(top, 'new', 'x'), ['denied'], 'put where nothing may be written');
  await refused(t, store(top, `${plain.home.slice(1)}/file/x`, 'x'), ['invalid'], 'put below a file');
  await refused(t, store(top, `${plain.home.slice(1)}/made`, 'x', true), ['exists'], 'put onto a folder');
});

t.test('a read-only file system refuses writes and allows reads', async (t) => {
  const at = join(plain.folder, 'frozen');
  await mounted(t, at, plain);
  await using target = await openSftp(plain, { password, base: at.slice(1) });
  await store(target, 'a', 'a');
  await run('mount', ['-o', 'remount,ro', at]);
  await refused(t, store(target, 'b', 'b'), ['read_only'], 'put');
  await refused(t, store(target, 'new/b', 'b'), ['read_only'], 'put in a new folder');
  await refused(t, target.remove('a'), ['read_only'], 'remove');
  t.equal(String(await read(await target.get('a', { signal: never() }))), 'a', 'it can be read');
});

t.test('links, FIFOs and names outside UTF-8 are not read, and can be removed', async (t) => {
  await using target = await openSftp(plain, { password, base: '~/odd' });
  await store(target, 'tree/file', 'file');
  const odd = join(plain.home, 'odd');
  await symlink('tree', join(odd, 'link'));
  await run('mkfifo', [join(odd, 'tree/fifo')]);
  await run('bash', [
    '-c',
    `cd ${odd}/tree && mkdir $'\\xff\\xfe' && touch $'\\xff\\xfe/\\x80 x' && ln -s / root && touch ' ' && chown -R ${plain.user} .`,
  ]);
  t.same(await target.stat('link'), { name: 'link', folder: false, size: 0 }, 'a link is no folder');
  for (const name of ['link', 'tree', 'tree/fifo'])
    await refused(t, target.get(name, { signal: never() }).then(read), ['invalid'], `get ${name}`);
  await target.remove('link');
  t.same(await target.stat('tree/file'), { name: 'file', folder: false, size: 4 }, 'what a link led to is there');
  await target.remove('tree');
  t.same(await entries(target, ''), [], 'names that are no text are removed, links not followed');
});

t.test('a server without protocol extensions works', async (t) => {
  const least = 'posix-rename,statvfs,fstatvfs,fsync,hardlink,limits';
  const own = await server(t, { config: [`Subsystem sftp internal-sftp -P ${least}`] });
  await using target = await openSftp(own, { password: own.password, base: '~' });
  t.match(target.supports, { freeSpace: false, atomicReplace: false });
  t.equal(await target.space(), undefined);
  await works(t, openSftp(own, { password: own.password, base: '~' }), 'it works');
  await store(target, 'f', 'one');
  await refused(t, store(target, 'f', 'two'), ['exists'], 'put over a file');
  await store(target, 'f', Buffer.alloc(5 << 20, 'three'), true);
  t.equal((await read(await target.get('f', { signal: never(), offset: (5 << 20) - 5 }))).length, 5, 'replaced');
  t.same(
    (await entries(target, '')).map(({ name }) => name),
    ['f', 'works'],
  );
});

t.test('a server without sftp is unsupported', async (t) => {
  const none = await server(t, { config: ['Subsystem other internal-sftp'] });
  t.match(await failure(openSftp(none, { password: none.password })), { code: 'unsupported', message: /no sftp subsystem/ });
  const talks = await server(t, { config: ['ForceCommand echo welcome to this server, please read the rules'] });
  t.match(await failure(openSftp(talks, { password: talks.password })), { code: 'unsupported', message: /no sftp server/ });
});
