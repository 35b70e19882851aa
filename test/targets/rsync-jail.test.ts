import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { targetConformance } from '../conformance/index.js';
import { startSshd } from '../support/servers/sshd.js';
import { openRsync } from './rsync-open.js';

const stateFolder = await mkdtemp(join(tmpdir(), 'rsync-jail-'));

// a key that may only run rrsync
const jail = await startSshd({ user: true, config: ['ForceCommand /usr/bin/rrsync %F/home'] });
t.teardown(async () => {
  await jail.stop();
  await rm(stateFolder, { recursive: true, force: true });
});
const { privateKey } = await jail.newKey('ed25519');
targetConformance({
  name: 'rsync, in an rrsync jail',
  open: () => openRsync(jail, stateFolder, { privateKey, base: 'backups' }),
  openFull: 'elsewhere',
  large: 64 << 20,
});
