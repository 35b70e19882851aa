import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import smb from '../../../plugins/targets/smb/index.js';
import { entries, never, read, refused, store } from '../../conformance/target/support.js';
import { freePort } from '../../support/servers/free-port.js';
import { openSmb, Smbd, stateFolder } from '../../support/servers/smbd.js';

const state = await stateFolder(t);
const smbd = await Smbd.start();
t.teardown(() => smbd[Symbol.asyncDispose]());

t.test('wrong logins, shares and addresses are refused with a code', async (t) => {
  await refused(t, openSmb(smbd, state, { password: 'wrong' }), ['denied'], 'wrong password');
  await refused(t, openSmb(smbd, state, { password: '' }), ['denied'], 'no password');
  await refused(t, openSmb(smbd, state, { username: 'nobody-here' }), ['denied'], 'unknown user');
  await refused(t, openSmb(smbd, state, { base: 'absent' }), ['not_found'], 'absent share');
  await refused(t, openSmb(smbd, state, { base: 'data/../x' }), ['invalid'], 'base');
  await refused(t, openSmb(smbd, state, { base: 'da*' }), ['invalid'], 'base');
  await refused(t, openSmb(smbd, state, { username: 'a\npassword = b' }), ['invalid'], 'a line end in the user name');
  await refused(t, openSmb(smbd, state, { username: ' ' }), ['invalid'], 'no user');
  await refused(t, openSmb(smbd, state, { port: await freePort() }), ['unavailable'], 'nothing listens');
  await refused(t, openSmb(smbd, state, { host: 'no-such-host.invalid' }), ['unavailable'], 'no such host');
  t.same(await readdir(state), [], 'no file is left');
});

t.test('an unknown user is never logged in as a guest', async (t) => {
  await using guests = await Smbd.start({ global: ['map to guest = bad user', 'guest account = nobody'], share: ['guest ok = yes'] });
  await refused(t, openSmb(guests, state, { username: 'nobody-here' }), ['denied'], 'share');
  await refused(t, openSmb(guests, state, { username: 'nobody-here', base: '' }), ['denied'], 'list of shares');
  await refused(t, openSmb(guests, state, { password: 'wrong' }), ['denied'], 'wrong password');
  await using target = await openSmb(guests, state);
  await store(target, 'a', 'a');
});

t.test('IPv6 addresses, host names and domains log in', async (t) => {
  for (const host of ['localhost', '::1', '[::1]']) {
    await using target = await openSmb(smbd, state, { host });
    await store(target, 'v6', host, true);
    t.equal(String(await read(await target.get('v6', { signal: never() }))), host);
    await using shares = await openSmb(smbd, state, { host, base: '' });
    t.same(await entries(shares, ''), [{ name: 'data', folder: true, size: 0 }], `shares of ${host}`);
  }
  for (const login of [
    { domain: 'WORKGROUP' },
    { username: `WORKGROUP\\${smbd.user}` },
    { username: `DOMAIN\\${smbd.user}`, domain: 'OTHER' },
  ]) {
    await using target = await openSmb(smbd, state, login);
    t.match(target.server, /^SMB 3\.1\.1$/);
  }
});

t.test('passwords with odd characters log in', async (t) => {
  const odd = [
    ' leading',
    '\ttab',
    'trailing ',
    'a%b',
    '#a;b',
    'q"u\'o',
    'ümläut 日本',
    'a=b',
    '=',
    '\\',
    '$HOME`id`',
    'x'.repeat(127),
    'y'.repeat(200),
  ];
  const before = smbd.password;
  for (const password of odd) {
    await smbd.setPassword(password);
    await using target = await openSmb(smbd, state);
    t.equal((await target.stat(''))?.folder, true, JSON.stringify(password));
  }
  await refused(t, openSmb(smbd, state, { password: ` ${'z'.repeat(200)}` }), ['invalid'], 'what cannot be given');
  await smbd.setPassword(before);
});

t.test('with an empty base the first part of a path is the share', async (t) => {
  await using target = await openSmb(smbd, state, { base: '' });
  t.same(await target.stat(''), { name: '', folder: true, size: 0 });
  t.same(await target.stat('data'), { name: 'data', folder: true, size: 0 });
  t.equal(await target.stat('absent'), undefined);
  t.equal(await target.stat('absent/x'), undefined);
  t.same(await entries(target, 'absent'), []);
  await store(target, 'data/in/share', 'x');
  t.same(await entries(target, 'data/in'), [{ name: 'share', folder: false, size: 1 }]);
  await refused(t, store(target, 'file', 'x'), ['invalid'], 'put beside the shares');
  await refused(t, store(target, 'absent/file', 'x'), ['not_found'], 'put in an absent share');
  await refused(t, target.remove('data'), ['invalid'], 'remove a share');
  t.equal(await target.space(), undefined);
  t.notOk(target.supports.freeSpace);
  await target.remove('data/in');
});

t.test('a read-only share refuses writes and allows reads', async (t) => {
  await using readonly = await Smbd.start({ share: ['read only = yes'] });
  await mkdir(join(readonly.folder, 'there'));
  await writeFile(join(readonly.folder, 'there/file'), 'bytes');
  await using target = await openSmb(readonly, state);
  await refused(t, store(target, 'new', 'x'), ['read_only'], 'put');
  await refused(t, store(target, 'there/a/b', 'x'), ['read_only'], 'put in a new folder');
  await refused(t, store(target, 'there/file', 'x', true), ['read_only'], 'replace');
  await refused(t, target.remove('there/file'), ['read_only'], 'remove');
  await refused(t, target.remove('there'), ['read_only'], 'remove a folder');
  t.equal(String(await read(await target.get('there/file', { signal: never() }))), 'bytes', 'it can be read');
});

t.test('servers without encryption or with SMB 1 only are unsupported', async (t) => {
  await using plain = await Smbd.start({ global: ['smb encrypt = off'] });
  await refused(t, openSmb(plain, state, { encrypt: true }), ['unsupported'], 'no encryption');
  await using old = await Smbd.start({ global: ['server max protocol = NT1', 'server min protocol = NT1'] });
  await refused(t, openSmb(old, state), ['unsupported'], 'SMB 1');
  t.notOk(await smb.detection?.answers(old.host, old.port, never()), 'not detected either');
});

t.test('detection finds an SMB server and nothing else', async (t) => {
  const answers = (host: string, port: number) => smb.detection?.answers(host, port, never());
  t.equal(smb.detection?.port, 445);
  t.equal(await answers(smbd.host, smbd.port), true);
  t.equal(await answers('::1', smbd.port), true, 'IPv6');
  t.equal(await answers(smbd.host, await freePort()), false, 'nothing listens');
  t.equal(await answers('no-such-host.invalid', 445), false, 'no such host');
  const ssh = createServer((socket) => socket.on('error', () => undefined).write('SSH-2.0-OpenSSH_9.2\r\n'));
  const port = await new Promise<number>((resolve) => {
    const listening = ssh.listen(0, '127.0.0.1', () => {
      const address = listening.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
  t.equal(await answers('127.0.0.1', port), false, 'another protocol');
  ssh.close();
  await using strict = await Smbd.start({ global: ['server min protocol = SMB3_11', 'smb encrypt = required'] });
  t.equal(await answers(strict.host, strict.port), true, 'one that takes only 3.1.1');
});
