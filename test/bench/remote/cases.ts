/** Which targets are measured against whom, over which ways, and what is promised. */
import {
  type Direction,
  opensshSftp,
  ourTarget,
  type RemoteContender,
  rsyncWhole,
  smbclientFile,
  smbclientPipe,
  sshCat,
} from './contenders.js';
import type { Protocol } from './servers.js';

export interface RemotePeer {
  readonly contender: RemoteContender;
  /** How many times as fast as it ours is to be; undefined: it is measured for information. */
  readonly wanted?: number;
  /** Only where there is no delay. */
  readonly near?: true;
}

export interface RemoteCase {
  readonly target: string;
  readonly protocol: Protocol;
  readonly ours: RemoteContender;
  readonly peers: readonly RemotePeer[];
  /** What is moved: a file of some size, since the questions before and after it take the same time for any. */
  readonly megabytes: number;
  /** Only where there is no delay: it is about what the processor does. */
  readonly near?: true;
}

export const directions: readonly Direction[] = ['write', 'read'];

/** Of a peer that does the same with less: it knows the file's length, or writes it under its own name at once. */
const asFast = 0.9;
const fasterThanSftp = 1.3;
/** What OpenSSH does not choose by itself, and the target does. */
const gcm = ['-c', 'aes128-gcm@openssh.com'];

export const remoteCases: readonly RemoteCase[] = [
  {
    target: 'smb, signed',
    protocol: 'smb',
    megabytes: 1000,
    ours: ourTarget('smb'),
    peers: [
      { contender: smbclientFile('smbclient', 'sign'), wanted: asFast },
      { contender: smbclientPipe('cat | smbclient put -', 'sign'), near: true },
    ],
  },
  {
    target: 'smb, encrypted',
    protocol: 'smb',
    megabytes: 1000,
    ours: ourTarget('smb', { encrypt: true }),
    peers: [{ contender: smbclientFile('smbclient', 'encrypt'), wanted: asFast }],
    near: true,
  },
  {
    target: 'sftp',
    protocol: 'sftp',
    megabytes: 500,
    ours: ourTarget('sftp'),
    peers: [
      { contender: opensshSftp('sftp'), wanted: fasterThanSftp },
      { contender: sshCat('ssh cat'), wanted: asFast },
      { contender: sshCat('ssh cat, AES-GCM', gcm), near: true },
    ],
  },
  {
    target: 'rsync',
    protocol: 'rsync',
    megabytes: 500,
    ours: ourTarget('rsync'),
    peers: [{ contender: rsyncWhole('rsync -W'), wanted: asFast }],
  },
];

export interface Way {
  /** Milliseconds of a round trip. */
  readonly delay: number;
  /** The protocols at the same time: all of them do is wait. */
  readonly together?: true;
}

export const ways: readonly Way[] = [{ delay: 0 }, { delay: 20 }, { delay: 100, together: true }];
