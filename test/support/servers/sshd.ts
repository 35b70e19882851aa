/** An SSH server of the suite's own: a real sshd with own keys, an own port and an own user. stop() removes all of it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { appendFile, chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from './free-port.js';
import { type Network, onHost } from './network.js';

const run = promisify(execFile);

export interface SshdOptions {
  /** Lines of sshd_config before the suite's own: sshd takes the first value of a keyword. "%F" is the server's folder. */
  readonly config?: readonly string[];
  /** Default 127.0.0.1. */
  readonly listen?: string;
  /** Runs it on another host. `listen` is then the address of that host. */
  readonly network?: Network;
  /** Makes a system user with a password, removed at the end; without, `user` is root, who logs in by key only. */
  readonly user?: boolean;
}

export interface KeyFile {
  readonly privateKey: string;
  readonly passphrase?: string;
}

export interface Sshd {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** '' for root. */
  readonly password: string;
  /** The user's home folder, inside `folder`. */
  readonly home: string;
  /** A folder that belongs to root with all its parents, as ChrootDirectory requires; removed at the end. */
  readonly folder: string;
  /** Fingerprints of the host keys, as `ssh-keygen -l` prints them. */
  readonly fingerprints: { readonly ed25519: string; readonly rsa: string };
  /** Makes a key pair that the user may log in with. */
  newKey(type: 'ed25519' | 'rsa' | 'ecdsa', o?: KeyOptions): Promise<KeyFile>;
  /** Makes new host keys. The next restart uses them. */
  newHostKeys(): Promise<void>;
  /** Sends SIGKILL to the server and its connections, as a power cut would end them. */
  kill(): Promise<void>;
  /** Sends SIGKILL to the processes of the connections. The server keeps listening. */
  killConnections(): Promise<void>;
  /** Sends SIGSTOP and SIGCONT to the server and its connections. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Starts it again on the same port, after kill(). */
  start(): Promise<void>;
  /** The log of sshd. */
  log(): Promise<string>;
  /** Ends it and removes its files and its user. */
  stop(): Promise<void>;
}

export interface KeyOptions {
  readonly passphrase?: string;
  /** false: the key is not authorized. */
  readonly allowed?: boolean;
  readonly pem?: boolean;
  /** Rounds of the key derivation (ssh-keygen -a). The default takes a fifth of a second or more. */
  readonly rounds?: number;
}

/** Starts a server. The test must stop it in a teardown. */
export async function startSshd(o: SshdOptions = {}): Promise<Sshd> {
  await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  const folder = await mkdtemp('/srv/sshd-test-'); // not below /tmp: a chroot there is refused
  await chmod(folder, 0o755);
  const server = new Server(folder, o);
  try {
    await server.prepare();
    await server.start();
    return server;
  } catch (error) {
    await server.stop();
    throw error;
  }
}

class Server implements Sshd {
  readonly host: string;
  readonly home: string;
  user = 'root';
  password = '';
  port = 0;
  fingerprints = { ed25519: '', rsa: '' };
  #child: ChildProcess | undefined;
  #keys = 0;

  constructor(
    readonly folder: string,
    readonly o: SshdOptions,
  ) {
    this.host = o.network?.address ?? o.listen ?? '127.0.0.1';
    this.home = join(folder, 'home');
  }

  async prepare(): Promise<void> {
    await mkdir(this.home, { mode: 0o755 });
    await writeFile(this.#at('authorized_keys'), '', { mode: 0o644 });
    if (this.o.user) await this.#addUser();
    await this.newHostKeys();
    this.port = this.o.network ? 2222 : await freePort(this.host);
    const own = [
      `ListenAddress ${this.host.includes(':') ? `[${this.host}]` : this.host}:${this.port}`,
      `HostKey ${this.#at('host-ed25519')}`,
      `HostKey ${this.#at('host-rsa')}`,
      `PidFile ${this.#at('pid')}`,
      `AuthorizedKeysFile ${this.#at('authorized_keys')}`,
      `AllowUsers ${this.user}`,
      ...['PermitRootLogin prohibit-password', 'StrictModes no', 'UsePAM no', 'PasswordAuthentication yes', 'UseDNS no'],
      ...['MaxStartups 100', 'LogLevel VERBOSE', 'PrintMotd no', 'Subsystem sftp internal-sftp'],
    ];
    const given = (this.o.config ?? []).map((line) => line.replaceAll('%F', this.folder));
    await writeFile(this.#at('sshd_config'), `${[...merged(given, own)].join('\n')}\n`);
  }

  #at(name: string): string {
    return join(this.folder, name);
  }

  async #addUser(): Promise<void> {
    this.user = `cbt${randomBytes(5).toString('hex')}`;
    this.password = randomBytes(12).toString('hex');
    await run('useradd', ['--no-create-home', '--home-dir', this.home, '--shell', '/bin/bash', this.user]);
    const setting = run('chpasswd', []);
    setting.child.stdin?.end(`${this.user}:${this.password}\n`);
    await setting;
    const ids = await Promise.all(['-u', '-g'].map(async (option) => Number((await run('id', [option, this.user])).stdout)));
    await chown(this.home, ids[0] ?? 0, ids[1] ?? 0);
  }

  async newHostKeys(): Promise<void> {
    for (const type of ['ed25519', 'rsa'] as const) {
      const file = this.#at(`host-${type}`);
      await rm(file, { force: true });
      const size = type === 'rsa' ? ['-b', '2048'] : []; // ssh-keygen's own 3072 bits take a third of a second
      await run('ssh-keygen', ['-q', '-t', type, ...size, '-N', '', '-f', file]);
      const { stdout } = await run('ssh-keygen', ['-lf', `${file}.pub`]);
      this.fingerprints = { ...this.fingerprints, [type]: stdout.split(' ')[1] ?? '' };
    }
  }

  async newKey(type: string, o: KeyOptions = {}): Promise<KeyFile> {
    const file = this.#at(`key-${this.#keys++}`);
    const more = [...(o.pem ? ['-m', 'PEM'] : []), ...(o.rounds === undefined ? [] : ['-a', `${o.rounds}`])];
    await run('ssh-keygen', ['-q', '-t', type, '-N', o.passphrase ?? '', ...more, '-f', file]);
    if (o.allowed !== false) await appendFile(this.#at('authorized_keys'), await readFile(`${file}.pub`));
    return { privateKey: await readFile(file, 'utf8'), ...(o.passphrase === undefined ? {} : { passphrase: o.passphrase }) };
  }

  async start(): Promise<void> {
    const log = openSync(this.#at('log'), 'a');
    try {
      const args = ['--pdeathsig', 'KILL', '--', '/usr/sbin/sshd', '-D', '-e', '-f', this.#at('sshd_config')];
      this.#child = spawn(...onHost(this.o.network, 'setpriv', args), { stdio: ['ignore', log, log] });
    } finally {
      closeSync(log);
    }
    for (let tries = 600; !(await answers(this.host, this.port)); tries--) {
      if (tries === 0 || this.#child.exitCode !== null) throw new Error(`sshd does not start: ${await this.log()}`);
      await sleep(50);
    }
  }

  async #signal(signal: NodeJS.Signals, o: { listener: boolean }): Promise<void> {
    const pid = this.#child?.pid;
    if (pid === undefined || this.#child?.exitCode !== null || this.#child.signalCode !== null) return;
    const children = await descendants(pid);
    for (const one of o.listener ? [pid, ...children] : children) send(one, signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await this.#signal('SIGSTOP', { listener: true }); // a stopped server forks no process while they are listed
    await this.#signal('SIGKILL', { listener: true });
    await ended;
  }
  killConnections(): Promise<void> {
    return this.#signal('SIGKILL', { listener: false });
  }
  pause(): Promise<void> {
    return this.#signal('SIGSTOP', { listener: true });
  }
  resume(): Promise<void> {
    return this.#signal('SIGCONT', { listener: true });
  }
  log(): Promise<string> {
    return readFile(this.#at('log'), 'utf8').catch(() => '');
  }

  async stop(): Promise<void> {
    await this.kill();
    if (this.user !== 'root') {
      // a killed process may take a moment to end, and userdel does not wait for it
      for (let tries = 20; tries > 0; tries--) {
        const done = await run('userdel', [this.user]).then(
          () => true,
          () => false,
        );
        if (done) break;
        await sleep(100);
      }
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** The given lines, then our own except those that a given line replaces. A Match block stays at the end. */
function* merged(given: readonly string[], own: readonly string[]): Generator<string> {
  const keyword = (line: string): string => line.split(/\s/, 1)[0]?.toLowerCase() ?? '';
  const match = given.findIndex((line) => keyword(line) === 'match');
  const plain = match < 0 ? given : given.slice(0, match);
  const taken = new Set(plain.map(keyword));
  yield* plain;
  yield* own.filter((line) => !taken.has(keyword(line)));
  if (match >= 0) yield* given.slice(match);
}

/** Pids of a process's children, their children, and so on. */
async function descendants(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>();
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'latin1').catch(() => undefined);
    const parent = Number(stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found: number[] = [];
  for (let level = children.get(pid) ?? []; level.length > 0; level = level.flatMap((one) => children.get(one) ?? [])) found.push(...level);
  return found;
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // the process has ended meanwhile
  }
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket
      .once('data', () => resolve(true))
      .once('error', () => resolve(false))
      .once('close', () => resolve(false));
    socket.once('data', () => socket.destroy());
  });
}
