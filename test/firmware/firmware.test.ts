/** Boots the built image in QEMU and tests it, from the first boot to the fallback. Run it with `make test-firmware BOARD=...`; the same
 *  file tests every architecture. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { part } from '../support/api-client.js';
import { startRemote } from '../support/servers/remotes.js';
import { GuestAppliance } from './appliance.js';
import { dockerSubject, lxcSubject, newJob, type Place, restore, type Subject } from './containers.js';
import { PowerCuts } from './power-cuts.js';
import { type Bundles, checkCutDuringInstall, checkRefusals, checkUpdates, type Kept, makeBundles } from './updates.js';

const board = process.env.BOARD ?? 'qemu-x86_64';
/** `smoke` stops after set-up, backup and restore on the data partition. That covers changes outside of firmware/. */
const whole = process.env.FIRMWARE_DEPTH !== 'smoke';
const folder = await mkdtemp(join(tmpdir(), 'firmware-'));
t.teardown(() => rm(folder, { recursive: true, force: true }));
const appliance = await GuestAppliance.boxed({ board, folder });
t.teardown(() => appliance[Symbol.asyncDispose]());

/** Runs a step. Each step builds on the steps before it, so the first failure ends the suite. */
async function step(name: string, work: (t: Test) => Promise<void>): Promise<void> {
  await t.test(name, work);
  if (!t.passing()) t.bailout(`${name}: the next steps build on it`);
}

await step('the image boots with 512 MB and no data, shows address, certificate and code, and lets nobody in without them', async (t) => {
  const seconds = await appliance.boot();
  t.pass(`the API answers ${seconds.toFixed(1)} s after power on`);
  const [, first = '', second = ''] = await appliance.machine.says(/Certificate, SHA-256:\s+([0-9A-F:]{48})\s+([0-9A-F:]{47})/, 60_000);
  t.equal(appliance.tunnel.fingerprint, first + second, 'the console shows the fingerprint of the certificate');
  const [, code = ''] = await appliance.machine.says(/Setup code[^:]*:\s+(\S+)/, 60_000);
  t.match((await appliance.api.ask('GET', '/backup/')).status, 401, 'the API refuses a request without a login');
  t.notMatch(await appliance.machine.console(), /login:/, 'the console has no login');
  await t.rejects(appliance.shell.run('true', 30_000), 'SSH is off');
  await appliance.logIn(code);
  t.equal(
    (await appliance.api.ask('POST', '/setup', { code, username: 'second', password: 'another long passphrase' })).status,
    409,
    'the code works once',
  );
});

await step('an admin switches SSH on, and SSH accepts only keys', async (t) => {
  await appliance.openShell();
  t.match(await appliance.shell.run("sshd -T | grep -i '^passwordauthentication'"), 'passwordauthentication no');
  t.match(await appliance.shell.run('awk -F: \'{print $1 ":" $2}\' /etc/shadow'), /^root:[*!]/m, 'root has no password');
  const noPassword = await appliance.shell.run("awk -F: '$2 !~ /^[*!]/ {print $1}' /etc/shadow");
  t.equal(noPassword.trim(), '', 'nobody has a password');
  const [, size = ''] = /([0-9]+)/.exec(await appliance.shell.run('df -m --output=size /data | tail -1')) ?? [];
  t.ok(Number(size) > 5000, `the data partition has grown to ${size} MiB`);
  const [, used = ''] = /Mem:\s+\d+\s+(\d+)/.exec(await appliance.shell.run('free -m')) ?? [];
  t.ok(Number(used) <= 250, `${used} MiB are in use`);
  t.equal((await appliance.shell.run('systemctl --failed --plain --no-legend')).trim(), '', 'no unit has failed');
});

const subjects: readonly Subject[] = [lxcSubject(appliance.shell), dockerSubject(appliance.shell)];
/** Ids of jobs by title. */
const jobs = new Map<string, number>();

function jobOf(title: string): number {
  const id = jobs.get(title);
  if (id === undefined) throw new Error(`no job ${title}`);
  return id;
}

/** Backs up, harms and restores a container, and compares its data. */
async function roundTrip(t: Test, subject: Subject, where: string, place: Place): Promise<void> {
  const what = `${subject.type} to ${where}`;
  const title = `${subject.type}-${where}`;
  const before = await subject.digest();
  const began = performance.now();
  const id = await newJob(appliance.api, subject, place, title);
  jobs.set(title, id);
  const state = await appliance.api.backUp(id);
  const stored = performance.now();
  await subject.harm();
  t.not(await subject.digest(), before, `${what}: harmed after a backup with ${String(state.pause_ms)} ms of pause`);
  const harmed = performance.now();
  await restore(appliance.api, subject, place, title);
  t.comment(`${what}: backup ${Math.round((stored - began) / 1000)} s, restore ${Math.round((performance.now() - harmed) / 1000)} s`);
  t.equal(await subject.digest(), before, `${what}: the data is restored`);
  t.ok(await subject.running(), `${what}: it runs`);
}

/** Runs both containers' round trips at once, to save time: their jobs do not wait for each other. */
const roundTrips = (t: Test, where: string, place: Place): Promise<unknown> =>
  Promise.all(subjects.map((subject) => roundTrip(t, subject, where, place)));

const bundles = whole ? makeBundles({ board, folder }) : undefined;

await step('a restore from the data partition brings an LXC and a Docker container back', async (t) => {
  await Promise.all(subjects.map((subject) => subject.make()));
  await roundTrips(t, 'data', { target: 'local', path: '/backup' });
});

for (const kind of whole ? (['smb', 'sftp'] as const) : []) {
  await step(`a restore from an ${kind} server brings both containers back`, async (t) => {
    const bed = await startRemote(t, kind);
    // 10.0.2.2 is the host's loopback, as QEMU's network shows it to the guest.
    const body = { ...bed.body, name: `${kind}-server`, ipaddr: `10.0.2.2:${bed.port}` };
    const profile = Number(part(await appliance.api.call('POST', '/target', body), 'id'));
    await roundTrips(t, kind, { target: 'remote', profile, path: bed.path });
  });
}

async function updatesAndPowerCuts(made: Bundles): Promise<void> {
  await step('the appliance refuses untrusted, damaged, foreign, older and too large bundles, each with its own error', (t) =>
    checkRefusals(t, appliance, { board, folder }),
  );
  const all = subjects.map((subject) => ({ subject, job: jobOf(`${subject.type}-data`) }));
  const cuts = new PowerCuts(appliance, all);
  const kept: Kept = { appliance, subjects, jobs, cuts };
  await step('jobs, containers and identity survive a power cut during an update', (t) => checkCutDuringInstall(t, kept, made));
  await step('jobs, containers and identity survive an update, and the boot loader falls back from a slot that is not healthy', (t) =>
    checkUpdates(t, kept, made),
  );
  await step(
    'containers survive four more power cuts during a backup, and a restore of the next run brings each of them back',
    async (t) => {
      // The guest finds the second disk first and must still boot from its own.
      await cuts.cut(t, await appliance.machine.freshDisk());
      for (let n = 0; n < 3; n++) await cuts.cut(t);
      await cuts.end(t, 5);
    },
  );
}
if (bundles !== undefined) await updatesAndPowerCuts(bundles);
