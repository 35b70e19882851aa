/** A service whose outputs are all kept, and remote servers with unique secrets (canaries). */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { type Body, hasEnded, notSoon, part } from '../../support/api-client.js';
import { destroyLxc, makeLxcContainer, makeLxcPath, startLxc } from '../../support/lxc.js';
import { Smbd } from '../../support/servers/smbd.js';
import { type KeyFile, type Sshd, startSshd } from '../../support/servers/sshd.js';
import { idOf } from '../bed/request-bodies.js';
import { type ServiceProcess, startProcess } from '../bed/service-process.js';
import { account } from '../rules/curl.js';
import { canaryMark } from './canary-watch.js';

export const canary = (): string => `${canaryMark}${randomBytes(12).toString('hex')}`;

/** Limit of an answer: whatever a server does, the service answers within 30 s. Twice that for a busy machine. */
const answerMs = 60_000;

/** A client that keeps every answer. */
export class Listener {
  #cookie = '';
  readonly told: string[] = [];

  constructor(readonly address: string) {}

  async ask(method: string, path: string, body?: Body): Promise<{ readonly status: number; readonly json: unknown }> {
    const answer = await fetch(`${this.address}/api/v1${path}`, {
      method,
      signal: AbortSignal.timeout(answerMs),
      headers: { 'content-type': 'application/json', ...(this.#cookie === '' ? {} : { cookie: this.#cookie }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((cause: unknown) => {
      throw new Error(`${method} ${path} was not answered`, { cause });
    });
    const text = await answer.text();
    this.told.push(JSON.stringify([...answer.headers]), text);
    const cookies = answer.headers.getSetCookie().map((line) => line.split(';')[0]);
    if (cookies.length > 0) this.#cookie = cookies.join('; ');
    return { status: answer.status, json: text === '' ? undefined : JSON.parse(text) };
  }
  async call(method: string, path: string, body?: Body): Promise<unknown> {
    const { status, json } = await this.ask(method, path, body);
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(json)}`);
    return json;
  }
  /** Waits until the job's run has ended. @returns its full state */
  async settled(kind: 'backup' | 'restore', id: number): Promise<Body> {
    for (let tries = 600; tries > 0; tries--) {
      const state = part(await this.call('GET', `/${kind}/${id}?view=full`), 'state');
      if (hasEnded(state)) return state;
      await sleep(100);
    }
    throw new Error(`${kind} ${id} did not end`);
  }
}

export interface CanaryBed {
  /** Folder of the state and the share. */
  readonly folder: string;
  readonly lxcPath: string;
  readonly service: ServiceProcess;
  readonly client: Listener;
}

const cloneOf = (container: string): string => `${container}-again`;

/** The service, with containers for backups. */
export async function openBed(t: Test, containers: readonly string[], flags: readonly string[] = []): Promise<CanaryBed> {
  const folder = await mkdtemp(join(tmpdir(), 'canaries-'));
  const lxcPath = await makeLxcPath();
  const [state, share] = [join(folder, 'state'), join(folder, 'share')];
  await mkdir(share);
  const own = ['--state', state, '--listen', '127.0.0.1:0', '--share', `test=${share}`, '--lxc-path', lxcPath];
  const service = startProcess(['serve', ...own, ...flags]);
  t.teardown(async () => {
    await service[Symbol.asyncDispose]();
    for (const name of containers.flatMap((one) => [one, cloneOf(one)])) await destroyLxc(lxcPath, name);
    for (const path of [folder, lxcPath]) await rm(path, { recursive: true, force: true, maxRetries: 5 });
  });
  for (const name of containers) {
    await makeLxcContainer(lxcPath, name);
    await startLxc(lxcPath, name);
  }
  const [, address = ''] = await service.announces(/^listening on (http:\/\/\S+?)\/?$/m);
  const client = new Listener(address);
  await client.call('POST', '/setup', { code: (await readFile(join(state, 'setup-code'), 'utf8')).trim(), ...account });
  await client.call('POST', '/login', account);
  return { folder, lxcPath, service, client };
}

export interface CanaryServer {
  /** By their names in messages. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly body: Body;
  /** Changes of the target that make the server refuse the login, and those that repair it. */
  readonly wrong: readonly Body[];
  readonly right: Body;
  readonly kill: () => Promise<void>;
  /** Another host key; undefined where there is none. */
  readonly changeKey?: () => Promise<void>;
  /** Pids of the server itself, which may know its secrets. */
  readonly own: string;
  /** Folder of this machine with the stored files. */
  readonly stored: string;
}

async function smbServer(t: Test): Promise<CanaryServer> {
  const password = canary();
  const wrong = canary();
  const smbd = await Smbd.start({ password, global: ['server signing = mandatory'] });
  t.teardown(() => smbd[Symbol.asyncDispose]());
  const { host, port, user: username, share, root, folder } = smbd;
  return {
    secrets: { password, 'the wrong password': wrong },
    body: { name: 'nas', ipaddr: `${host}:${port}`, username, password, base: `/${share}` },
    wrong: [{ password: wrong }],
    right: { password },
    kill: () => smbd.kill(),
    own: root,
    stored: folder,
  };
}

function changesKey(server: Sshd): () => Promise<void> {
  return async () => {
    await server.kill();
    await server.newHostKeys();
    await server.start();
  };
}

async function passwordServer(t: Test): Promise<CanaryServer> {
  const server = await startSshd({ user: true });
  t.teardown(() => server.stop());
  const { host, port, user: username, password, folder: own, home: stored } = server;
  const wrong = canary();
  return {
    secrets: { password, 'the wrong password': wrong },
    body: { name: 'nas', ipaddr: `${host}:${port}`, username, password, base: '/~' },
    wrong: [{ password: wrong }],
    right: { password },
    kill: () => server.kill(),
    changeKey: changesKey(server),
    own,
    stored,
  };
}

/** The middle line of a private key, which holds only key material. */
function middleLine({ privateKey }: KeyFile): string {
  const lines = privateKey.trim().split('\n');
  return lines[Math.floor(lines.length / 2)] ?? '';
}

async function keyServer(t: Test, kind: 'sftp' | 'rsync'): Promise<CanaryServer> {
  const jail = ['Match User *', '  ForceCommand /usr/bin/rrsync %F/jail', 'Match all'];
  const server = await startSshd(kind === 'sftp' ? { user: true } : { config: jail });
  t.teardown(() => server.stop());
  const { host, port, user: username, folder: own, home } = server;
  const stored = kind === 'sftp' ? home : join(own, 'jail');
  await mkdir(stored, { recursive: true });
  const [passphrase, wrong, password] = [canary(), canary(), canary()];
  const easy = { passphrase, rounds: 1 }; // with the usual rounds, each use of the key would take long
  const { privateKey } = await server.newKey('ed25519', easy);
  const stranger = await server.newKey('ed25519', { ...easy, allowed: false });
  const secrets = { passphrase, 'the wrong passphrase': wrong, 'the unused password': password };
  return {
    secrets: { ...secrets, 'the key': middleLine({ privateKey }), 'the wrong key': middleLine(stranger) },
    body: {
      ...{ name: 'nas', ipaddr: `${host}:${port}`, username, password, type: kind, options: { privateKey, passphrase } },
      ...(kind === 'sftp' && { base: '/~' }),
    },
    wrong: [{ options: { passphrase: wrong } }, { options: { privateKey: stranger.privateKey, passphrase } }],
    right: { options: { privateKey, passphrase } },
    kill: () => server.kill(),
    changeKey: changesKey(server),
    own,
    stored,
  };
}

/** A server for each kind and each way to log in, by names that a container can have. */
export const canaryServers: Readonly<Record<string, (t: Test) => Promise<CanaryServer>>> = {
  'smb-by-password': smbServer,
  'sftp-by-password': passwordServer,
  'sftp-by-key': (t) => keyServer(t, 'sftp'),
  'rsync-by-key': (t) => keyServer(t, 'rsync'),
};

/** Makes a backup job of a container on a target, which runs only on request. */
export async function makeBackup({ client }: CanaryBed, container: string, profile: number): Promise<number> {
  const dest = { target: 'remote', profile, path: '/back ups/all' };
  const body = { job_name: container, container_id: container, type: 'lxc', features: ['compress'], dest, at: notSoon() };
  return idOf(await client.call('POST', '/backup', body));
}

/** Restores the job's run as a clone. @returns the state of the restore */
export async function restoreBeside({ client }: CanaryBed, container: string, profile: number): Promise<Body> {
  const src = { target: 'remote', profile, path: '/back ups/all', portfolio: container };
  const made = await client.call('POST', '/restore', { job_name: 'beside', container_id: cloneOf(container), type: 'lxc', src });
  return client.settled('restore', idOf(made));
}
