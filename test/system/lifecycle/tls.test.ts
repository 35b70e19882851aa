/** The service with a certificate, tested over real connections. */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { connect as connectPlain } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type SecureVersion } from 'node:tls';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type CertificateFiles, makeCertificate } from '../../support/servers/certificates.js';
import { runToEnd, startProcess } from '../bed/service-process.js';

const run = promisify(execFile);

async function newFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tls-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function flagsIn(folder: string, { certificate, key }: Partial<CertificateFiles>): string[] {
  const options = ['--state', join(folder, 'state'), '--lxc-path', join(folder, 'none'), '--docker-socket', join(folder, 'none')];
  const tls = [...(certificate ? ['--tls-certificate', certificate] : []), ...(key ? ['--tls-key', key] : [])];
  return ['serve', '--listen', '127.0.0.1:0', ...options, ...tls];
}

interface Reply {
  readonly status: number;
  readonly text: string;
  readonly cookie: string;
}

function ask(address: string, path: string, ca: string, o: { method?: string; body?: string; agent?: false } = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(`${address}${path}`, { ca, method: o.method ?? 'GET', agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text, cookie: answer.headers['set-cookie']?.[0] ?? '' }));
    });
    sent.on('error', reject);
    sent.end(o.body);
  });
}

/** The negotiated protocol, or the error. */
function handshake(port: number, version: SecureVersion): Promise<string> {
  return new Promise((resolve) => {
    // Security level 0: otherwise the client would refuse the old protocols.
    const options = { port, host: '127.0.0.1', rejectUnauthorized: false, minVersion: version, maxVersion: version };
    const socket = connect({ ...options, ciphers: 'DEFAULT@SECLEVEL=0' }, () => {
      resolve(socket.getProtocol() ?? '');
      socket.end();
    });
    socket.on('error', (error) => resolve(error.message));
  });
}

/** Subject of the certificate that the service shows to a new connection. */
function shownBy(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.end();
    }).on('error', reject);
  });
}

t.test('the service speaks HTTPS, and its cookie is Secure', async (t) => {
  const folder = await newFolder(t);
  const files = await makeCertificate(folder, 'one');
  const ca = await readFile(files.certificate, 'utf8');
  await using service = startProcess(flagsIn(folder, files));
  const [, address = '', port] = await service.announces(/^listening on (https:\/\/127\.0\.0\.1:(\d+))\n/);
  t.match(await ask(address, '/healthz', ca), { status: 200, text: '{"alive":true}' }, 'with the certificate checked by the client');
  const [, code = ''] = await service.announces(/^setup code: (\S+)$/m);
  const account = { username: 'me', password: 'long enough' };
  t.match(await ask(address, '/api/v1/setup', ca, { method: 'POST', body: JSON.stringify({ code, ...account }) }), { status: 200 });
  const login = await ask(address, '/api/v1/login', ca, { method: 'POST', body: JSON.stringify(account) });
  t.equal(login.status, 200);
  t.match(login.cookie, /; secure/i);
  t.match(login.cookie, /; httponly/i);
  t.equal(await handshake(Number(port), 'TLSv1.3'), 'TLSv1.3');
  t.equal(await handshake(Number(port), 'TLSv1.2'), 'TLSv1.2');
  for (const old of ['TLSv1', 'TLSv1.1'] as const) t.match(await handshake(Number(port), old), /alert|version|protocol/i, old);
  service.child.kill('SIGTERM');
  t.equal(await service.ended, 0);
  t.equal(service.said.stderr.replaceAll(/^.* info .*\n/gm, ''), '', 'nothing to complain about');
});

t.test('a plain HTTP connection to the HTTPS port is closed at once', async (t) => {
  const folder = await newFolder(t);
  const files = await makeCertificate(folder, 'one');
  await using service = startProcess(flagsIn(folder, files));
  const [, address = '', port] = await service.announces(/^listening on (https:\S+:(\d+))\n/);
  const began = Date.now();
  const closed = await new Promise<string>((resolve) => {
    const socket = connectPlain(Number(port), '127.0.0.1', () => socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'));
    socket.on('error', () => undefined).on('close', () => resolve('closed'));
    socket.resume();
    setTimeout(() => resolve('hangs'), 5000).unref();
  });
  t.equal(closed, 'closed');
  t.ok(Date.now() - began < 2000, `${Date.now() - began} ms`);
  t.match(await ask(address, '/healthz', await readFile(files.certificate, 'utf8')), { status: 200 }, 'others are served');
});

t.test('a changed certificate and key are used without a restart', async (t) => {
  const folder = await newFolder(t);
  const files = await makeCertificate(folder, 'one');
  const other = await makeCertificate(folder, 'two');
  await using service = startProcess(flagsIn(folder, files));
  const [, port] = await service.announces(/^listening on https:\S+:(\d+)\n/);
  t.equal(await shownBy(Number(port)), 'one');
  const settles = async (log: RegExp, from: number) => {
    for (let tries = 0; tries < 200 && !log.test(service.said.stderr.slice(from)); tries++) await sleep(50);
    return service.said.stderr.slice(from);
  };
  let from = service.said.stderr.length;
  await rename(other.certificate, files.certificate);
  t.match(await settles(/stays in use/, from), /is not the key of the certificate/, 'half of a pair');
  t.equal(await shownBy(Number(port)), 'one', 'is not taken');
  from = service.said.stderr.length;
  await rename(other.key, files.key);
  await settles(/is in use/, from);
  t.equal(await shownBy(Number(port)), 'two', 'the whole is');
  from = service.said.stderr.length;
  await rm(files.key);
  t.match(await settles(/stays in use/, from), /does not exist/);
  t.equal(await shownBy(Number(port)), 'two', 'and stays when a file goes');
  t.notMatch(service.said.stderr, /PRIVATE|BEGIN/);
});

t.test('a wrong certificate or key ends the start, and the error names the file and what to do', async (t) => {
  const folder = await newFolder(t);
  const one = await makeCertificate(folder, 'one');
  const two = await makeCertificate(folder, 'two');
  const none = join(folder, 'none.pem');
  const text = join(folder, 'text.pem');
  await writeFile(text, 'no PEM\n');
  const locked = join(folder, 'locked.pem');
  await run('openssl', ['pkey', '-in', one.key, '-aes256', '-passout', 'pass:long secret', '-out', locked]);
  await chmod(locked, 0o600);
  const cases: readonly (readonly [what: string, files: Partial<CertificateFiles>, why: RegExp])[] = [
    ['a certificate alone', { certificate: one.certificate }, /tls_key is missing; give both, or neither/],
    ['a key alone', { key: one.key }, /tls_certificate is missing; give both, or neither/],
    ['no certificate there', { ...one, certificate: none }, /none\.pem does not exist; tls_certificate must name a PEM file/],
    ['no key there', { ...one, key: none }, /none\.pem does not exist; tls_key must name a PEM file/],
    ['a folder', { ...one, key: folder }, /tls-\S+ cannot be read.*EISDIR/],
    ['a certificate that is none', { ...one, certificate: text }, /text\.pem holds no certificate.*BEGIN CERTIFICATE/],
    ['a key that is none', { ...one, key: text }, /text\.pem holds no private key in PEM form \(openssl pkey/],
    ['a key under a passphrase', { ...one, key: locked }, /locked\.pem is under a passphrase; store it without one/],
    ["another's key", { ...one, key: two.key }, /two-key\.pem is not the key of the certificate in \S+one\.pem/],
  ];
  for (const [what, files, why] of cases) {
    const { code, stdout, stderr } = await runToEnd(flagsIn(folder, files));
    t.equal(code, 2, what);
    t.match(stderr, why, what);
    t.equal(stdout, '');
  }
});
