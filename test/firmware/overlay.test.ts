/** Runs the image's scripts without a machine, on a folder as the root. */
import { execFile, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { makeCertificate } from '../support/servers/certificates.js';
import { type ServiceProcess, startProcess } from '../system/bed/service-process.js';
import { repository } from './machine.js';

const run = promisify(execFile);
const script = (name: string): string => join(repository, 'firmware/overlay/usr/lib/container-backup/bin', name);

/** Makes a folder like the image's root, with links to this machine's network in /proc. */
async function newRoot(t: Test): Promise<string> {
  const root = t.testdir({
    etc: { 'machine-id': '0123456789abcdef0123456789abcdef\n' },
    data: {},
    proc: { net: {}, sys: { kernel: { hostname: 'nobody-yet\n' } } },
    run: {},
    usr: { lib: { 'os-release': 'IMAGE_VERSION=9.8\n', 'container-backup': { 'package.json': '{\n  "version": "1.2.3"\n}\n' } } },
    var: { lib: { 'container-backup': {} } },
  });
  for (const name of ['fib_trie', 'if_inet6']) await symlink(`/proc/net/${name}`, join(root, 'proc/net', name));
  return root;
}

const makeIdentity = (root: string): Promise<unknown> => run(script('identity'), { env: { ...process.env, IDENTITY_ROOT: root } });
const digest = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

const made = ['hostname', 'tls/key.pem', 'tls/certificate.pem', 'ssh/ssh_host_ed25519_key', 'ssh/ssh_host_ed25519_key.pub'];

t.test('identity makes names and keys once, and only root can read the keys', async (t) => {
  const root = await newRoot(t);
  const identity = join(root, 'data/identity');
  const digests = (): Promise<string[]> => Promise.all(made.map((name) => digest(join(identity, name))));
  await makeIdentity(root);
  const first = await digests();
  t.equal(await readFile(join(identity, 'hostname'), 'utf8'), 'container-backup-012345\n');
  t.equal(await readFile(join(root, 'proc/sys/kernel/hostname'), 'utf8'), 'container-backup-012345\n', 'the kernel has the host name');
  const certificate = new X509Certificate(await readFile(join(identity, 'tls/certificate.pem')));
  t.equal(certificate.checkHost('container-backup-012345.local'), 'container-backup-012345.local');
  for (const key of ['tls/key.pem', 'ssh/ssh_host_ed25519_key']) t.equal((await stat(join(identity, key))).mode & 0o777, 0o600, key);
  await makeIdentity(root);
  t.same(await digests(), first, 'a second run changes nothing');
});

t.test('identity replaces files that a power cut emptied, and keeps complete ones', async (t) => {
  const root = await newRoot(t);
  const identity = join(root, 'data/identity');
  await makeIdentity(root);
  const kept = await digest(join(identity, 'ssh/ssh_host_ed25519_key'));
  await writeFile(join(identity, 'tls/key.pem'), '');
  await writeFile(join(identity, 'hostname'), '');
  await writeFile(join(identity, 'ssh/ssh_host_ed25519_key.pub'), 'rubbish');
  await makeIdentity(root);
  const key = await readFile(join(identity, 'tls/key.pem'), 'utf8');
  const certificate = new X509Certificate(await readFile(join(identity, 'tls/certificate.pem')));
  const { stdout } = await run('openssl', ['pkey', '-in', join(identity, 'tls/key.pem'), '-pubout']);
  t.match(key, 'PRIVATE KEY');
  t.equal(String(certificate.publicKey.export({ type: 'spki', format: 'pem' })), stdout, 'the certificate belongs to the new key');
  t.equal(await readFile(join(identity, 'hostname'), 'utf8'), 'container-backup-012345\n');
  t.equal(await digest(join(identity, 'ssh/ssh_host_ed25519_key')), kept, 'the SSH key stays');
  t.match(await readFile(join(identity, 'ssh/ssh_host_ed25519_key.pub'), 'utf8'), /^ssh-ed25519 /);
});

/** Starts the console script on a root. */
function startConsole(t: Test, root: string): { says(pattern: RegExp): Promise<string> } {
  const child = spawn(script('console'), ['ttyS0'], { env: { ...process.env, CONSOLE_ROOT: root, CONSOLE_EVERY: '0.2' } });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  t.teardown(() => child.kill());
  return {
    /** Waits until the last page matches. @returns that page */
    async says(pattern) {
      for (let tries = 100; tries > 0; tries--) {
        const page = `Container Backup${said.split('Container Backup').at(-1) ?? ''}`;
        if (pattern.test(page)) return page;
        await sleep(100);
      }
      throw new Error(`no ${pattern} in\n${said}`);
    },
  };
}

t.test('the console shows the address, the certificate, and the setup code until it is used', async (t) => {
  const root = await newRoot(t);
  const code = join(root, 'var/lib/container-backup/setup-code');
  await writeFile(code, 'AbC-123_\n');
  const { says } = startConsole(t, root);
  const page = await says(/Certificate/);
  t.match(page, 'Container Backup 1.2.3 (firmware 9.8)');
  t.match(page, 'https://nobody-yet.local/');
  t.match(page, /Setup code \(once, for the first administrator\): {2}AbC-123_\n/);
  await makeIdentity(root);
  const file = await readFile(join(root, 'data/identity/tls/certificate.pem'));
  const fingerprint = new X509Certificate(file).fingerprint256;
  const named = await says(/https:\/\/container-backup-012345\.local\//);
  t.equal((await says(/[0-9A-F]{2}:[0-9A-F]{2}/)).replaceAll(/\s/g, '').includes(fingerprint), true, 'the new fingerprint');
  t.match(named, 'Setup code');
  await rm(code);
  await says(/^(?![\s\S]*Setup code)/);
  t.pass('the page has no setup code once its file is removed');
});

/** Runs `health wait` against a port, with its files in `folder`. */
function startHealth(t: Test, folder: string, port: string): { readonly ended: Promise<number | null>; isGood(): Promise<boolean> } {
  const good = join(folder, 'slot-good');
  const places = { HEALTH_RUNTIME: folder, HEALTH_STATE: folder, HEALTH_CMDLINE: '/dev/null', HEALTH_PORT: port };
  const child = spawn(script('health'), ['wait'], { stdio: 'ignore', env: { ...process.env, ...places } });
  t.teardown(() => child.kill());
  const isGood = () =>
    stat(good).then(
      () => true,
      () => false,
    );
  return { ended: once(child, 'exit').then(([code]) => code), isGood };
}

t.test('health marks the slot good when the service is ready, or when it reports a damaged state', async (t) => {
  const folder = t.testdir({ state: {}, tls: {}, ready: {}, rescue: {} });
  const { certificate, key } = await makeCertificate(join(folder, 'tls'), 'appliance');
  const engines = ['--lxc-path', join(folder, 'none'), '--docker-socket', join(folder, 'none')];
  const tls = ['--tls-certificate', certificate, '--tls-key', key];
  const serve = async (): Promise<{ readonly service: ServiceProcess; readonly port: string }> => {
    const service = startProcess(['serve', '--listen', '127.0.0.1:0', '--state', join(folder, 'state'), ...engines, ...tls]);
    const [, port = ''] = await service.announces(/^listening on https:\S+:(\d+)/);
    return { service, port };
  };
  {
    const { service, port } = await serve();
    await using _running = service;
    const health = startHealth(t, join(folder, 'ready'), port);
    t.equal(await health.ended, 0, 'the service is ready');
    t.ok(await health.isGood());
  }
  for (const name of ['db', 'journal']) await rm(join(folder, 'state', name), { recursive: true });
  const { service, port } = await serve();
  await using _rescue = service;
  t.match(service.said.stderr, /state is damaged/i);
  const health = startHealth(t, join(folder, 'rescue'), port);
  t.equal(await health.ended, 0, 'the state is damaged');
  t.ok(await health.isGood());
});

t.test('health does not mark the slot good on any other answer', async (t) => {
  const folder = t.testdir({});
  const { certificate, key } = await makeCertificate(folder, 'appliance');
  let asked = 0;
  const server = createServer({ cert: await readFile(certificate), key: await readFile(key) }, (_request, response) => {
    asked++;
    response.writeHead(503).end('{"type":"urn:container-backup:error:unavailable","detail":"HTTP/1.1 200 OK"}');
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const address = server.address();
  const health = startHealth(t, folder, String(typeof address === 'object' ? address?.port : address));
  while (asked < 2) await sleep(50);
  t.notOk(await health.isGood());
});
