/** A link, a folder or a device with the name of a manifest is a problem of that run alone. On each kind of target, the error comes
 *  soon and names the run. */
import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { manifestText, type RecordedRun, readRuns } from '../../core/archive/index.js';
import type { Target } from '../../core/contract/index.js';
import { findRun } from '../../core/targets/find-run.js';
import { openSmb, Smbd, stateFolder } from '../support/servers/smbd.js';
import { startSshd } from '../support/servers/sshd.js';
import { manifest, never, someTarget } from '../system/hostile/archive-samples.js';
import { openRsync } from './rsync-open.js';
import { openSftp } from './sftp-open.js';

const run = promisify(execFile);
const good = '2026-11-01_00-00-00';

/** Makes each odd entry at a path. */
const things: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  fifo: (path) => run('mkfifo', [path]),
  folder: (path) => mkdir(path),
  device: (path) => run('mknod', [path, 'c', '1', '5']),
  'dangling-link': (path) => symlink('/nowhere', path),
  'link-out': (path) => symlink('/etc/passwd', path),
  socket: (path) => run('python3', ['-c', 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])', path]),
};

async function fill(root: string): Promise<void> {
  const whole = (name: string) => join(root, `container-backup@${name}`, good);
  await mkdir(whole('innocent'), { recursive: true });
  await writeFile(join(whole('innocent'), 'manifest.json'), manifestText(manifest(good)));
  for (const [name, make] of Object.entries(things)) {
    await mkdir(whole(name), { recursive: true });
    await make(join(whole(name), 'manifest.json'));
  }
  await run('chmod', ['-R', 'a+rX', root]);
}

/** Asserts that reading each odd manifest soon fails with an error that names the run. The server shows no entry of `hidden`. */
async function judge(t: Test, target: Target, hidden: readonly string[] = []): Promise<void> {
  for (const name of Object.keys(things)) {
    const record = `container-backup@${name}`;
    const found: RecordedRun[] = [];
    for await (const one of readRuns(target, record, AbortSignal.timeout(15_000))) found.push(one);
    if (hidden.includes(name)) t.same(found, [{ run: good, state: 'empty' }], `${name}: as if it was not there`);
    else t.match(found, [{ run: good, state: 'damaged', why: new RegExp(`${record}/${good}/manifest.json`) }], name);
    await t.rejects(
      findRun(target, `${name}/${good}`, never),
      { code: /^(damaged|not_found)$/, message: new RegExp(record) },
      `${name}, by its name`,
    );
  }
  t.equal((await findRun(target, `innocent/${good}`, never)).manifest.run, good, 'another record at the same path');
  t.equal((await findRun(target, '7', never)).record, 'container-backup@innocent', 'also by the id of its job');
  t.equal((await findRun(target, good, never)).record, 'container-backup@innocent', 'and by its time');
}

t.test('a share reports an odd manifest as a problem of its run', async (t) => {
  const { target, root } = await someTarget(t);
  await fill(root);
  await judge(t, target);
});

t.test('SMB reports an odd manifest as a problem of its run, and shows no link out of the share', async (t) => {
  const state = await stateFolder(t);
  await using smbd = await Smbd.start();
  await fill(smbd.folder);
  await using target = await openSmb(smbd, state);
  await judge(t, target, ['dangling-link', 'link-out']);
});

t.test('SFTP and rsync report an odd manifest as a problem of its run', async (t) => {
  const sshd = await startSshd({ user: true });
  t.teardown(() => sshd.stop());
  const state = await stateFolder(t);
  await fill(sshd.home);
  const { password } = sshd;
  await using sftp = await openSftp(sshd, { password, base: sshd.home.slice(1) });
  await judge(t, sftp);
  await using rsync = await openRsync(sshd, state, { password, base: sshd.home.slice(1) });
  await judge(t, rsync);
});
