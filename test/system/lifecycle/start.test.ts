/** The start of the service: its configuration, its output, and the errors that end it. */
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { notSoon, part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { runToEnd, startProcess } from '../bed/service-process.js';

async function newFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'start-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Flags for a service that uses nothing outside the folder. */
const flagsIn = (folder: string, ...more: readonly string[]): string[] => [
  'serve',
  '--state',
  join(folder, 'state'),
  '--listen',
  '127.0.0.1:0',
  '--lxc-path',
  join(folder, 'no-lxc'),
  '--docker-socket',
  join(folder, 'no-docker'),
  ...more,
];

t.test('the first line names the address, and the service listens there by then', async (t) => {
  for (const [host, flags] of [
    ['127.0.0.1', []],
    ['[::1]', ['--listen', '[::1]:0']],
  ] as const) {
    await using service = startProcess(flagsIn(await newFolder(t), ...flags));
    const [line = '', address = '', port] = await service.announces(/^listening on (http:\/\/\S+:(\d+))\n/);
    t.equal(service.said.stdout.indexOf(line), 0, 'nothing comes before it');
    t.equal(address, `http://${host}:${port}`);
    t.not(Number(port), 0, `port 0 takes a free one: ${port}`);
    t.same(await (await fetch(`${address}/healthz`)).json(), { alive: true });
    service.child.kill('SIGTERM');
    t.equal(await service.ended, 0);
    t.equal(service.said.stderr, '', 'and there is nothing to complain about');
  }
});

t.test('only root can read the setup code, a restart keeps it, and the setup deletes it', async (t) => {
  const folder = await newFolder(t);
  const file = join(folder, 'state/setup-code');
  const codes: string[] = [];
  for (let round = 0; round < 2; round++) {
    await using service = startProcess(flagsIn(folder));
    const [, code = ''] = await service.announces(/^setup code: (\S+)$/m);
    t.ok(code.length >= 12, `${code.length} characters`);
    t.equal((await stat(file)).mode & 0o7777, 0o600);
    t.equal((await stat(join(folder, 'state'))).mode & 0o7777, 0o700, 'the folder around it, too');
    t.equal((await readFile(file, 'utf8')).trim(), code);
    codes.push(code);
    await chmod(file, 0o644); // the next start corrects the mode
  }
  t.equal(codes[0], codes[1]);
  {
    await using service = startProcess(flagsIn(folder));
    const [, address] = await service.announces(/^listening on (\S+)/);
    await service.announces(/^setup code: /m);
    const body = (code: string) => ({ method: 'POST', body: JSON.stringify({ code, username: 'me', password: 'long enough' }) });
    t.equal((await fetch(`${address}/api/v1/setup`, body('wrong'))).status, 403);
    t.ok(await isThere(file), 'a wrong code changes nothing');
    t.equal((await fetch(`${address}/api/v1/setup`, body(codes[0] ?? ''))).status, 200);
    t.notOk(await isThere(file), 'gone');
    t.equal((await fetch(`${address}/api/v1/setup`, body(codes[0] ?? ''))).status, 409, 'and worth nothing');
  }
  await using service = startProcess(flagsIn(folder));
  const [, address] = await service.announces(/^listening on (\S+)/);
  await fetch(`${address}/healthz`);
  t.notOk(await isThere(file), 'a later start makes none');
  t.notMatch(service.said.stdout, /setup code/);
});

t.test('flags override variables, variables the file, and the file the defaults', async (t) => {
  const folder = await newFolder(t);
  const at = (name: string) => join(folder, name);
  for (const name of ['file-share', 'variable-share', 'flag-share', 'other-share']) await mkdir(at(name));
  const file = {
    state: at('by-file'),
    listen: '127.0.0.4:0',
    share: { one: at('file-share') },
    lxc_path: at('no-lxc'),
    docker_socket: at('no-docker'),
    new_base_ratio: 0.25,
    big_file_mib: 16,
    undo_hours: 1,
    log_level: 'error',
  };
  await writeFile(at('config.json'), JSON.stringify(file));
  const variables = {
    CONTAINER_BACKUP_CONFIG: at('config.json'),
    CONTAINER_BACKUP_STATE: at('by-variable'),
    CONTAINER_BACKUP_LISTEN: '127.0.0.3:0',
    CONTAINER_BACKUP_SHARE: `one=${at('variable-share')},two=${at('other-share')}`,
  };
  const flags = ['--state', at('by-flag'), '--listen', '127.0.0.2:0', '--share', `one=${at('flag-share')}`];
  const only = { CONTAINER_BACKUP_CONFIG: at('config.json') };
  const cases = [
    { what: 'the file', args: [], env: only, host: '127.0.0.4', state: 'by-file', shares: ['file-share'] },
    { what: 'a variable', args: [], env: variables, host: '127.0.0.3', state: 'by-variable', shares: ['other-share', 'variable-share'] },
    { what: 'a flag', args: flags, env: variables, host: '127.0.0.2', state: 'by-flag', shares: ['flag-share'] },
    {
      what: 'the file by flag',
      args: ['--config', at('config.json')],
      env: {},
      host: '127.0.0.4',
      state: 'by-file',
      shares: ['file-share'],
    },
  ];
  for (const { what, args, env, host, state, shares } of cases) {
    await using service = startProcess(['serve', ...args], { environment: env });
    const [, told] = await service.announces(/^listening on http:\/\/(.*):\d+\n/);
    t.equal(told, host, `${what}: listen`);
    t.ok(await isThere(at(`${state}/db`)), `${what}: state`);
    const marked: string[] = [];
    for (const name of await readdir(folder)) if (await isThere(at(`${name}/.container-backup-share`))) marked.push(name);
    t.same(marked, shares, `${what}: share`);
    for (const name of marked) await rm(at(`${name}/.container-backup-share`));
    for (const name of ['by-file', 'by-variable', 'by-flag']) if (name !== state) t.notOk(await isThere(at(name)), `${what}: not ${name}`);
    await service[Symbol.asyncDispose]();
    await rm(at(state), { recursive: true });
  }
});

t.test('a wrong command line or configuration ends the start with code 2 and says what to change', async (t) => {
  const folder = await newFolder(t);
  const file = async (name: string, text: string) => {
    await writeFile(join(folder, name), text);
    return ['--config', join(folder, name)];
  };
  const cases: readonly (readonly [what: string, args: readonly string[], why: RegExp])[] = [
    ['an unknown command', ['srve'], /no command srve/],
    ['an unknown flag', ['serve', '--colour', 'red'], /--colour/],
    ['a flag without its value', ['serve', '--state'], /--state/],
    ['a stray word', ['serve', 'now'], /now/],
    ['a share without a folder', flagsIn(folder, '--share', 'nas'), /NAME=DIR.*nas/],
    ['a share without a name', flagsIn(folder, '--share', '=/nas'), /NAME=DIR/],
    ['a hidden share', flagsIn(folder, '--share', '.nas=/nas'), /share/],
    ['an address without a port', flagsIn(folder, '--listen', 'localhost'), /\/listen/],
    ['a port that is none', flagsIn(folder, '--listen', 'localhost:http'), /\/listen/],
    ['a port that is too high', flagsIn(folder, '--listen', '127.0.0.1:65536'), /listen|port/i],
    ['a ratio that is no number', flagsIn(folder, '--new-base-ratio', 'half'), /\/new_base_ratio/],
    ['a ratio of nothing', flagsIn(folder, '--new-base-ratio', '0'), /\/new_base_ratio/],
    ['hours below zero', flagsIn(folder, '--undo-hours=-1'), /\/undo_hours/],
    ['an unknown level', flagsIn(folder, '--log-level', 'loud'), /\/log_level.*debug/],
    ['an empty state', ['serve', '--state', '', '--listen', '127.0.0.1:0'], /state/],
    ['an empty path', flagsIn(folder, '--lxc-path', ''), /lxc.path/],
    ['no file', ['serve', '--config', join(folder, 'none.json')], /none\.json/],
    ['no JSON', ['serve', ...(await file('text.json', 'state: /x'))], /text\.json must hold a JSON object/],
    ['no object', ['serve', ...(await file('list.json', '[]'))], /list\.json must hold a JSON object/],
    ['an unknown key', ['serve', ...(await file('key.json', '{"stat": "/x"}'))], /\/stat is not a known key/],
    ['a relative path in it', ['serve', ...(await file('relative.json', '{"state": "x"}'))], /\/state/],
  ];
  for (const [what, args, why] of cases) {
    const { code, stdout, stderr } = await runToEnd(args, { cwd: folder }); // a service that starts in error must use nothing else
    t.equal(code, 2, what);
    t.match(stderr, why, what);
    t.equal(stderr.trim().split('\n').length, 1, `${what}: one line, no stack`);
    t.equal(stdout, '', `${what}: nothing was started`);
  }
  const { code, stderr } = await runToEnd(['serve'], { environment: { CONTAINER_BACKUP_LOG_LEVEL: 'loud' } });
  t.same([code, /log_level/.test(stderr)], [2, true], 'a variable, too');
});

t.test('a taken port, a foreign address and an impossible state folder end the start with code 1', async (t) => {
  const folder = await newFolder(t);
  const taken = createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await once(taken, 'listening');
  const address = taken.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  await writeFile(join(folder, 'a-file'), '');
  const cases: readonly (readonly [what: string, args: readonly string[], why: RegExp])[] = [
    ['a port that is taken', flagsIn(folder, '--listen', `127.0.0.1:${port}`), new RegExp(`127\\.0\\.0\\.1:${port}`)],
    ['an address that is not of this machine', flagsIn(folder, '--listen', '192.0.2.1:0'), /192\.0\.2\.1/],
    ['a state below a file', flagsIn(folder, '--state', join(folder, 'a-file/state')), /a-file/],
  ];
  for (const [what, args, why] of cases) {
    const { code, stderr } = await runToEnd(args);
    t.equal(code, 1, what);
    t.match(stderr, why, what);
    t.equal(stderr.trim().split('\n').length, 1, `${what}: one line, no stack`);
  }
});

t.test('a missing engine is reported, and the service starts without it', async (t) => {
  const folder = await newFolder(t);
  const a = await makeAppliance(t, { dockerSocket: join(folder, 'no-docker'), lxcPath: join(folder, 'no-lxc') });
  t.same(await a.service.call('GET', '/container/'), [], 'the list of all is empty');
  for (const type of ['docker', 'lxc']) {
    const { status, text } = await a.service.ask('GET', `/container/?type=${type}`);
    t.equal(status, 503, `asked for ${type} alone, it says so`);
    t.match(text, /no-docker|no-lxc/, 'and names the place');
  }
  t.match(part(await a.service.call('GET', '/system/'), 'version'), { docker_version: '' });
  for (const type of ['docker', 'lxc']) {
    const id = await a.service.create('backup', {
      job_name: type,
      container_id: 'one',
      type,
      dest: { target: 'local', path: '/test/x' },
      at: notSoon(),
    });
    t.match(await a.service.call('GET', `/backup/${id}?view=full`), { container_found: false });
    await a.service.call('PUT', `/backup/${id}/run`);
    const state = await a.service.settled('backup', id);
    t.match(state, { result: -1, error: { code: /^(unavailable|not_found)$/, message: /no-docker|no-lxc/ } }, type);
  }
  t.same(await (await fetch(`${a.service.address}/readyz`)).json(), { ready: true });
});
