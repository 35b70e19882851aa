import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import type { Target } from '../../core/contract/index.js';
import plugin, { type RsyncOptions } from '../../plugins/targets/rsync/index.js';
import { targetConformance } from '../conformance/index.js';
import { type Sshd, startSshd } from '../support/sshd.js';

const run = promisify(execFile);
const stateFolder = await mkdtemp(join(tmpdir(), 'rsync-conformance-'));

function open(options: RsyncOptions): Promise<Target> {
  return plugin.open({ options, stateFolder, signal: new AbortController().signal, log: () => undefined });
}

/** The suite compares what a put gives with the bytes alone. */
async function opened(options: RsyncOptions): Promise<Target> {
  const target = await open(options);
  return {
    supports: target.supports,
    put: async (path, source, o) => ({ bytes: (await target.put(path, source, o)).bytes }),
    get: (path, o) => target.get(path, o),
    stat: (path) => target.stat(path),
    list: (path, o) => target.list(path, o),
    remove: (path) => target.remove(path),
    space: () => target.space(),
    [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
  };
}

const place = (sshd: Sshd) => ({ host: sshd.host, port: sshd.port, username: sshd.user, hostKey: sshd.fingerprints.ed25519 });
const below = (sshd: Sshd, folder: string): string => join(sshd.home, folder).slice(1);

// a login with a shell and a password
const shell = await startSshd({ user: true });
const small = join(shell.home, 'small');
await mkdir(small);
await run('mount', ['-t', 'tmpfs', '-o', `size=8m,mode=777`, 'tmpfs', small]);
t.teardown(async () => {
  await run('umount', ['-l', small]);
  await shell.stop();
  await rm(stateFolder, { recursive: true, force: true });
});
const login = { ...place(shell), password: shell.password };
targetConformance({
  name: 'rsync, with a shell',
  open: () => opened({ ...login, base: below(shell, 'back ups/of $HOME'), pieceMiB: 24 }),
  fill: () => opened({ ...login, base: `~/small/x` }),
  large: 128 << 20,
});

// a key that may only run rrsync
const jail = await startSshd({ user: true, config: ['ForceCommand /usr/bin/rrsync %F/home'] });
t.teardown(() => jail.stop());
const { privateKey } = await jail.newKey('ed25519');
targetConformance({
  name: 'rsync, in an rrsync jail',
  open: () => opened({ ...place(jail), privateKey, base: 'backups' }),
  large: 64 << 20,
});
