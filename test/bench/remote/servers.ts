/** The servers of this machine that remote targets are measured with, and the ways to them. */
import { fork } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Smbd } from '../../support/servers/smbd.js';
import { startSshd } from '../../support/servers/sshd.js';

export type Protocol = 'smb' | 'sftp' | 'rsync';

/** What both a target and its peers need to reach a server. */
export interface RemoteServer {
  readonly port: number;
  readonly user: string;
  /** Where what is stored lies on this machine. */
  readonly folder: string;
  /** For the target: what its plugin takes, without host and port. */
  readonly options: Readonly<Record<string, unknown>>;
  /** For the peer: a file with the login, and what else its program takes to log in by it. */
  readonly login: readonly string[];
}

/** A way to a server's port that takes its time. */
export interface DelayedWay extends Disposable {
  readonly port: number;
}

export async function delayedWay(port: number, roundTrip: number): Promise<DelayedWay> {
  if (roundTrip === 0) return { port, [Symbol.dispose]: () => undefined };
  const relay = fork(fileURLToPath(new URL('delay-relay.js', import.meta.url)), [`${port}`, `${roundTrip}`]);
  const own = await new Promise<number>((resolve, reject) => {
    relay.once('message', (message: unknown) => (typeof message === 'number' ? resolve(message) : reject(new Error('no port'))));
    relay.once('exit', () => reject(new Error('the relay has ended')));
  });
  return { port: own, [Symbol.dispose]: () => void relay.kill() };
}

type Ends = (() => Promise<void>)[];

/** Signs all that it says, and encrypts when it is asked to. What it lets in and stores lies below TMPDIR. */
async function samba(work: string, ends: Ends): Promise<RemoteServer> {
  const smbd = await Smbd.start({ global: ['server signing = mandatory'] });
  ends.push(() => smbd[Symbol.asyncDispose]());
  const { port, user, password, share, folder } = smbd;
  const account = join(work, 'smb-login');
  const config = join(work, 'smb.conf');
  await writeFile(account, `username = ${user}\npassword = ${password}\n`, { mode: 0o600 });
  await writeFile(config, '[global]\n'); // nothing of the machine's own
  const options = { username: user, password, base: share };
  return { port, user, folder, options, login: ['-s', config, '-A', account, '-E', '-q'] };
}

/** Root, by key. */
async function openSsh(work: string, ends: Ends): Promise<RemoteServer> {
  const sshd = await startSshd();
  ends.push(() => sshd.stop());
  const { privateKey } = await sshd.newKey('ed25519');
  const key = join(work, 'ssh-key');
  const known = join(work, 'ssh-known');
  await writeFile(key, privateKey, { mode: 0o600 });
  await writeFile(known, `bench ${await readFile(join(sshd.folder, 'host-ed25519.pub'), 'utf8')}`);
  const options = { username: sshd.user, privateKey, hostKey: sshd.fingerprints.ed25519, base: sshd.home.slice(1) };
  // the name under which its key is known: ports differ with the way to it
  const settings = [
    `UserKnownHostsFile=${known}`,
    'HostKeyAlias=bench',
    'StrictHostKeyChecking=yes',
    'IdentitiesOnly=yes',
    'LogLevel=ERROR',
  ];
  const login = ['-F', 'none', '-i', key, ...settings.flatMap((setting) => ['-o', setting])];
  return { port: sshd.port, user: sshd.user, folder: sshd.home, options, login };
}

export class RemoteServers implements AsyncDisposable {
  private constructor(
    private readonly all: Readonly<Record<Protocol, RemoteServer>>,
    private readonly ends: Ends,
  ) {}

  static async start(work: string): Promise<RemoteServers> {
    const ends: Ends = [];
    try {
      const smb = await samba(work, ends);
      const ssh = await openSsh(work, ends);
      return new RemoteServers({ smb, sftp: ssh, rsync: ssh }, ends);
    } catch (error) {
      for (const end of ends) await end();
      throw error;
    }
  }
  of(protocol: Protocol): RemoteServer {
    return this.all[protocol];
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.ends) await end();
  }
}
