import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { targetConformance } from '../conformance/index.js';
import { startSshd } from '../support/servers/sshd.js';
import { openRsync } from './rsync-open.js';

const run = promisify(execFile);
const stateFolder = await mkdtemp(join(tmpdir(), 'rsync-conformance-'));

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
const { password } = shell;
targetConformance({
  name: 'rsync, with a shell',
  open: () => openRsync(shell, stateFolder, { password, base: join(shell.home, 'back ups/of $HOME').slice(1), pieceMiB: 24 }),
  openFull: () => openRsync(shell, stateFolder, { password, base: '~/small/x' }),
  large: 128 << 20,
});
