/** A real server of each kind that a remote target is for, and the target as a client tells it to the service. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Body } from './demo-client.js';
import { Smbd } from './smbd.js';
import { startSshd } from './sshd.js';

export const remoteKinds = ['smb', 'sftp', 'rsync'] as const;
export type RemoteKind = (typeof remoteKinds)[number];

export interface RemoteBed {
  readonly kind: RemoteKind;
  readonly host: string;
  readonly port: number;
  /** What POST /target takes. Of smb and sftp the type is left to be found. */
  readonly body: Body;
  /** A job's path on it, and the folder of this machine where that lies. */
  readonly path: string;
  readonly root: string;
  /** As a power cut ends it, with all its connections. */
  kill(): Promise<void>;
  /** Ends the connections only. */
  killSessions(): Promise<void>;
  start(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
}

type Owner = Pick<Test, 'teardown'>;

async function smbBed(t: Owner, size?: string): Promise<RemoteBed> {
  const smbd = await Smbd.start({ global: ['server signing = mandatory'], ...(size !== undefined && { size }) });
  t.teardown(() => smbd[Symbol.asyncDispose]());
  const { host, port, user: username, password, share } = smbd;
  return {
    kind: 'smb',
    host,
    port,
    body: { name: 'nas', ipaddr: `${host}:${port}`, username, password, base: `/${share}` },
    path: '/back ups/all',
    root: join(smbd.folder, 'back ups/all'),
    kill: () => smbd.kill(),
    killSessions: () => smbd.killConnections(),
    start: () => smbd.again(),
    pause: () => smbd.pause(),
    resume: () => smbd.continue(),
  };
}

async function sshBed(t: Owner, kind: 'sftp' | 'rsync'): Promise<RemoteBed> {
  const jail = ['Match User *', '  ForceCommand /usr/bin/rrsync %F/jail'];
  const server = await startSshd(kind === 'sftp' ? { user: true, config: [] } : { config: [...jail, 'Match all'] });
  t.teardown(() => server.stop());
  const { host, port, user: username, password, folder, home } = server;
  const common = { name: 'nas', ipaddr: `${host}:${port}`, username, password };
  const controls = {
    kind,
    host,
    port,
    path: '/back ups/all',
    kill: () => server.kill(),
    killSessions: () => server.killSessions(),
    start: () => server.start(),
    pause: () => server.pause(),
    resume: () => server.resume(),
  };
  if (kind === 'sftp') return { ...controls, body: { ...common, base: '/~' }, root: join(home, 'back ups/all') };
  await mkdir(join(folder, 'jail'), { recursive: true });
  const { privateKey } = await server.newKey('ed25519');
  return {
    ...controls,
    body: { ...common, password: '', type: 'rsync', options: { privateKey } },
    root: join(folder, 'jail/back ups/all'),
  };
}

/** Started; stopped, with all that it keeps, at the end of the test. */
export function startRemote(t: Owner, kind: RemoteKind): Promise<RemoteBed> {
  return kind === 'smb' ? smbBed(t) : sshBed(t, kind);
}
