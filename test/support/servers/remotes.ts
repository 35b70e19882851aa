/** A real server for each kind of remote target, and the body of POST /target for it. */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import type { Body } from '../api-client.js';
import type { Network } from './network.js';
import { Smbd } from './smbd.js';
import { startSshd } from './sshd.js';

const run = promisify(execFile);

export const remoteKinds = ['smb', 'sftp', 'rsync'] as const;
export type RemoteKind = (typeof remoteKinds)[number];

export interface RemoteBed {
  readonly kind: RemoteKind;
  readonly host: string;
  readonly port: number;
  /** Body of POST /target. For smb and sftp it names no type, so that the service detects it. */
  readonly body: Body;
  /** A job's path on it, and the folder of this machine that the path leads to. */
  readonly path: string;
  readonly root: string;
  /** Kills the server and all its connections (SIGKILL), as a power cut does. */
  kill(): Promise<void>;
  /** Kills the connections only. */
  killConnections(): Promise<void>;
  start(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
}

export interface RemoteOptions {
  readonly network?: Network;
  /** The folder for backups is a file system in memory (tmpfs) of this size: '40m'. */
  readonly size?: string;
  /** rsync: rrsync restricts the login; without, it has a shell. */
  readonly jail?: boolean;
}

type Owner = Pick<Test, 'teardown'>;

const path = '/back ups/all';

async function smbBed(t: Owner, { network, size }: RemoteOptions): Promise<RemoteBed> {
  const options = { ...(network && { network }), ...(size !== undefined && { size }) };
  const smbd = await Smbd.start({ global: ['server signing = mandatory'], ...options });
  t.teardown(() => smbd[Symbol.asyncDispose]());
  const { host, port, user: username, password, share } = smbd;
  return {
    kind: 'smb',
    host,
    port,
    body: { name: 'nas', ipaddr: `${host}:${port}`, username, password, base: `/${share}` },
    path,
    root: join(smbd.folder, path),
    kill: () => smbd.kill(),
    killConnections: () => smbd.killConnections(),
    start: () => smbd.again(),
    pause: () => smbd.pause(),
    resume: () => smbd.continue(),
  };
}

async function mounted(t: Owner, folder: string, size: string, owner: string): Promise<void> {
  await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]);
  t.teardown(() => run('umount', ['-l', folder]));
  await run('chown', [owner, folder]);
}

async function sshBed(t: Owner, kind: 'sftp' | 'rsync', { network, size, jail = false }: RemoteOptions): Promise<RemoteBed> {
  const config = jail && kind === 'rsync' ? ['ForceCommand /usr/bin/rrsync %F/jail'] : [];
  // not root: a shell would run root's own profile at each command
  const server = await startSshd({ user: true, config, ...(network && { network }) });
  t.teardown(() => server.stop());
  const { host, port, user: username, password, folder, home } = server;
  const top = kind === 'sftp' ? join(home, 'top') : join(folder, 'jail');
  await mkdir(top);
  await run('chown', [username, top]);
  if (size !== undefined) {
    await mounted(t, top, size, username);
    // a server in a network namespace sees only what was mounted when it started
    await server.kill();
    await server.start();
  }
  const login = { name: 'nas', ipaddr: `${host}:${port}`, username };
  const { privateKey } = await server.newKey('ed25519');
  const rsync = { password: '', type: 'rsync', base: jail ? '/' : top, options: { privateKey, pieceMiB: 4 } };
  return {
    kind,
    host,
    port,
    body: { ...login, ...(kind === 'sftp' ? { password, base: '/~/top' } : rsync) },
    path,
    root: join(top, path),
    kill: () => server.kill(),
    killConnections: () => server.killConnections(),
    start: () => server.start(),
    pause: () => server.pause(),
    resume: () => server.resume(),
  };
}

/** Starts a server. The test stops it at its end, and removes what it stores. */
export function startRemote(t: Owner, kind: RemoteKind, o: RemoteOptions = {}): Promise<RemoteBed> {
  return kind === 'smb' ? smbBed(t, o) : sshBed(t, kind, o);
}
