import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Target } from '../../../core/contract/index.js';
import smb, { type SmbOptions } from '../../../plugins/targets/smb/index.js';
import { freePort } from './free-port.js';
import { type Network, onHost } from './network.js';

const run = promisify(execFile);

export interface SmbdOptions {
  /** More lines for [global]. */
  readonly global?: readonly string[];
  /** More lines for the share `data`. */
  readonly share?: readonly string[];
  /** The share lies in a file system in memory of this size: '8m'. */
  readonly size?: string;
  readonly password?: string;
  /** Runs it on another host. */
  readonly network?: Network;
}

/** An smbd of the suite's own, with a user and the share `data`. It uses nothing of the machine's Samba. */
export class Smbd implements AsyncDisposable {
  readonly share = 'data';
  #server: ChildProcess | undefined;
  /** The processes that run while nobody is connected. */
  #own = new Set<number>();

  private constructor(
    readonly root: string,
    readonly port: number,
    readonly user: string,
    public password: string,
    readonly options: SmbdOptions,
  ) {}

  static async start(options: SmbdOptions = {}): Promise<Smbd> {
    const root = await mkdtemp(join(tmpdir(), 'smbd-'));
    const user = `cbsmb${randomBytes(4).toString('hex')}`;
    const smbd = new Smbd(root, await freePort(), user, options.password ?? 'a password', options);
    try {
      await smbd.#prepare();
      await smbd.again();
      return smbd;
    } catch (error) {
      await smbd[Symbol.asyncDispose]();
      throw error;
    }
  }
  get host(): string {
    return this.options.network?.address ?? '127.0.0.1';
  }
  /** The share's folder on this machine. */
  get folder(): string {
    return join(this.root, 'share');
  }
  get #conf(): string {
    return join(this.root, 'smb.conf');
  }
  async #prepare(): Promise<void> {
    await chmod(this.root, 0o755); // the user must reach the share
    for (const name of ['share', 'private', 'lock', 'state', 'cache', 'pid', 'ncalrpc']) await mkdir(join(this.root, name));
    if (this.options.size !== undefined) await run('mount', ['-t', 'tmpfs', '-o', `size=${this.options.size}`, 'tmpfs', this.folder]);
    await changeUsers('useradd', '-M', '-N', '-s', '/usr/sbin/nologin', this.user);
    await run('chown', [this.user, this.folder]);
    await writeFile(this.#conf, this.#text());
    await this.setPassword(this.password);
  }
  async setPassword(password: string): Promise<void> {
    this.password = password;
    const setting = run('smbpasswd', ['-c', this.#conf, '-s', '-a', this.user]);
    setting.child.stdin?.end(`${password}\n${password}\n`);
    await setting;
  }
  #text(): string {
    const folders = ['private dir', 'lock directory', 'state directory', 'cache directory', 'pid directory', 'ncalrpc dir'];
    const global = [
      ...['server role = standalone server', 'disable netbios = yes', `smb ports = ${this.port}`, 'interfaces = lo'],
      ...[
        `bind interfaces only = ${this.options.network ? 'no' : 'yes'}`,
        `log file = ${this.root}/log`,
        'load printers = no',
        'disable spoolss = yes',
      ],
      ...folders.map((name) => `${name} = ${join(this.root, name.split(' ')[0] ?? '')}`),
      ...(this.options.global ?? []),
    ];
    const share = [`path = ${this.folder}`, 'read only = no', ...(this.options.share ?? [])];
    return `[global]\n${global.join('\n')}\n[${this.share}]\n${share.join('\n')}\n`;
  }
  /** Starts it, or starts it again after stop or kill, at the same port. */
  async again(): Promise<void> {
    // a process group of its own, so that a signal reaches all of it even when the first process has ended
    const args = ['-F', '--no-process-group', '-s', this.#conf];
    const server = spawn(...onHost(this.options.network, 'smbd', args), { stdio: 'ignore', detached: true });
    server.once('error', () => undefined);
    this.#server = server;
    for (let tries = 600; !(await reachable(this.host, this.port)); tries--) {
      if (tries === 0 || server.exitCode !== null)
        throw new Error(`smbd does not start: ${await readFile(join(this.root, 'log'), 'utf8')}`);
      await sleep(100);
    }
    await sleep(200); // time for its helper processes
    this.#own = new Set(await this.#members());
  }
  /** Pids of all its processes. */
  async #members(): Promise<number[]> {
    const group = this.#server?.pid;
    const found: number[] = [];
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
      const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      // the process for its list of shares has a group of its own
      const helper = (await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')).includes(`--configfile=${this.#conf}`);
      if (state !== 'Z' && (helper || Number(pgrp) === group)) found.push(Number(name));
    }
    return found;
  }
  async #signal(signal: NodeJS.Signals, which: (pid: number) => boolean = () => true): Promise<void> {
    for (const pid of await this.#members()) if (which(pid)) kill(pid, signal);
  }
  /** Stops it with SIGTERM. */
  async stop(): Promise<void> {
    if (this.#server === undefined) return;
    await this.#signal('SIGCONT');
    await this.#signal('SIGTERM');
    for (let tries = 50; tries > 0 && (await this.#members()).length > 0; tries--) await sleep(100);
    await this.kill();
  }
  /** Kills it with SIGKILL, as a power cut does. */
  async kill(): Promise<void> {
    while (this.#server !== undefined && (await this.#members()).length > 0) {
      await this.#signal('SIGKILL');
      await sleep(20);
    }
  }
  /** Breaks all connections. Clients can connect again at once. */
  async killConnections(): Promise<void> {
    await this.#signal('SIGKILL', (pid) => !this.#own.has(pid));
  }
  async pause(): Promise<void> {
    await this.#signal('SIGSTOP');
  }
  async continue(): Promise<void> {
    await this.#signal('SIGCONT');
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await changeUsers('userdel', this.user).catch(() => undefined);
    if (this.options.size !== undefined) await run('umount', ['-l', this.folder]).catch(() => undefined);
    await rm(this.root, { recursive: true, force: true });
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has ended
  }
}

/** Retries: another program may hold the lock of the machine's list of users. */
async function changeUsers(command: string, ...args: string[]): Promise<void> {
  for (let tries = 20; ; tries--) {
    try {
      await run(command, args, { env: { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` } });
      return;
    } catch (error) {
      if (tries === 0 || !/lock/.test(String(error))) throw error;
      await sleep(250);
    }
  }
}

function reachable(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Opens the share `data`, or another one with the options `o`. */
export function openSmb(smbd: Smbd, stateFolder: string, o: Partial<SmbOptions> = {}): Promise<Target> {
  const { host, port, user: username, password, share: base } = smbd;
  const options = { host, port, username, password, base, ...o };
  return smb.open({ log: () => undefined, signal: new AbortController().signal, stateFolder, options });
}

/** A folder for a plugin's state. The suite removes it at its end. */
export async function stateFolder(t: { teardown(work: () => Promise<void>): unknown }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'smb-state-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
