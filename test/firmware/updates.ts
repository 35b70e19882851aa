/** The steps of the suite that test updates. */
import { stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { part } from '../support/api-client.js';
import type { GuestAppliance } from './appliance.js';
import { developmentKeys, flipBit, foreignKeys, sendBundle, smallBundle, variantBundle } from './bundles.js';
import { type Subject, starts } from './containers.js';
import type { PowerCuts } from './power-cuts.js';

interface Where {
  readonly board: string;
  readonly folder: string;
}

const newer = '99.0.1';
const broken = '99.0.2';
const installMs = 600_000;

/** Makes an image whose service cannot start: it removes Node, the engines and the kernel's drivers, and shortens the health deadline.
 *  The removal also makes the bundle small; the guest takes a minute to receive and write a full one. */
const breakService = `
  rm usr/bin/{node,docker,ctr,containerd*,perl*,smbclient} usr/sbin/{dockerd,runc} usr/lib/udev/hwdb.bin
  rm -r usr/lib/modules/*/kernel/drivers usr/lib/*/{samba,libicu*,libndr*} usr/lib/udev/hwdb.d usr/share/{grub,zoneinfo}
  sed -i 's/^OnBootSec=.*/OnBootSec=12s/' usr/lib/systemd/system/container-backup-health.timer`;

/** Returns digests of the other slot and the boot loader's environment, which show every change. */
const otherSlot = (appliance: GuestAppliance): Promise<string> =>
  appliance.shell.run(`other=$(grep -q rauc.slot=A /proc/cmdline && echo b || echo a)
    for part in root boot; do head -c 4194304 /dev/boot-disk/$part-$other | sha256sum; done; grub-editenv /efi/grub/grubenv list 2>/dev/null || true`);

export async function checkRefusals(t: Test, appliance: GuestAppliance, { board, folder }: Where): Promise<void> {
  const { api } = appliance;
  const before = await otherSlot(appliance);
  const compatible = `container-backup-${board}`;
  const made = (name: string, o: Partial<Parameters<typeof smallBundle>[1]>): Promise<string> =>
    smallBundle(join(folder, name), { compatible, version: newer, keys: developmentKeys, ...o });
  const flipped = await made('flipped.raucb', {});
  await flipBit(flipped, Math.floor((await stat(flipped)).size / 3));
  const cases = [
    ['one flipped bit', flipped, 'damaged_bundle'],
    ['a foreign signature', await made('foreign.raucb', { keys: await foreignKeys(folder) }), 'untrusted_bundle'],
    ['another board', await made('other-board.raucb', { compatible: 'container-backup-toaster' }), 'incompatible_bundle'],
  ] as const;
  for (const [what, file, code] of cases) {
    const { status, json, text } = await sendBundle(api, file);
    t.equal(status, 422, `${what}: ${text}`);
    t.match(String(part(json, 'type')), code, `${what}: the error has its own code`);
  }
  const older = await sendBundle(api, await made('older.raucb', { version: '0.0.1' }));
  t.equal(part(older.json, 'downgrade'), true, 'an older version is a downgrade');
  const refused = await api.ask('POST', '/update/install', {});
  t.equal(refused.status, 409, `a downgrade is not installed: ${refused.text}`);
  await api.call('DELETE', '/update/bundle');
  await appliance.shell.run('fallocate -l $(($(df -B1 --output=avail /data | tail -1) - 33554432)) /data/full');
  const tooLarge = await sendBundle(api, await made('large.raucb', {}).then((file) => padded(file)));
  await appliance.shell.run('rm /data/full');
  t.equal(tooLarge.status, 507, `too little space: ${tooLarge.text}`);
  t.equal(await otherSlot(appliance), before, 'the other slot and the boot loader are untouched');
}

/** Makes the file longer than the free room. */
async function padded(file: string): Promise<string> {
  await truncate(file, 64 << 20);
  return file;
}

async function send(t: Test, appliance: GuestAppliance, file: string): Promise<void> {
  const sent = await sendBundle(appliance.api, file);
  t.equal(sent.status, 200, `sent: ${sent.text}`);
}

/** Waits until the update is in one of these states, or the time is over. @returns the update's state as the API reports it */
async function stateIn(appliance: GuestAppliance, states: readonly string[]): Promise<unknown> {
  for (const until = Date.now() + installMs; ; await sleep(1000)) {
    const update = await appliance.update();
    if (states.includes(String(part(update, 'state'))) || Date.now() > until) return update;
  }
}

/** Installs the uploaded bundle. */
async function install(t: Test, appliance: GuestAppliance): Promise<void> {
  await appliance.api.call('POST', '/update/install', {});
  const update = await stateIn(appliance, ['installed', 'failed']);
  t.equal(part(update, 'state'), 'installed', JSON.stringify(update));
}

/** The things that every update and power cut must preserve: jobs, names, certificate, running containers. */
export interface Kept {
  readonly appliance: GuestAppliance;
  readonly subjects: readonly Subject[];
  /** Ids by name. */
  readonly jobs: ReadonlyMap<string, number>;
  readonly cuts: PowerCuts;
}

interface State {
  readonly jobs: readonly unknown[];
  readonly names: string;
  readonly certificate: string;
}

async function stateOf({ appliance }: Kept): Promise<State> {
  const jobs = await appliance.api.call('GET', '/backup/');
  const names = await appliance.shell.run('cat /etc/machine-id /data/identity/hostname');
  return { jobs: Array.isArray(jobs) ? jobs.map((job) => part(job, 'id')) : [], names, certificate: appliance.tunnel.fingerprint };
}

async function checkKept(t: Test, kept: Kept, before: State): Promise<void> {
  t.same(await stateOf(kept), before, 'jobs, names and certificate are unchanged');
  for (const subject of kept.subjects) {
    await starts(subject);
    t.pass(`${subject.type}: it runs`);
  }
  await becomesGood(t, kept.appliance);
}

/** Cuts the power while RAUC writes the other slot, and empties the boot loader's environment before. The uploaded bundle must survive:
 *  `checkUpdates` installs it. */
export async function checkCutDuringInstall(t: Test, kept: Kept, bundles: Bundles): Promise<void> {
  const { appliance } = kept;
  await send(t, appliance, await bundles.good);
  const before = await stateOf(kept);
  t.same(new Set(before.jobs), new Set(kept.jobs.values()), 'all jobs are there');
  const first = await runs(appliance);
  const written = (await appliance.shell.run("stat -c '%Y %s' /efi/grub/grubenv")).trim();
  await appliance.api.call('POST', '/update/install', {});
  // RAUC marks the other slot as bad in the environment, and then writes the slot. Only a whole environment has the former size.
  const [time, size] = written.split(' ');
  const marked = `[ $(stat -c %s /efi/grub/grubenv) = ${size} ] && [ $(stat -c %Y /efi/grub/grubenv) != ${time} ]`;
  await appliance.shell.run(`for n in $(seq 3000); do if ${marked}; then break; fi; sleep 0.1; done; ${marked}`);
  await appliance.shell.run(': >/efi/grub/grubenv; sync /efi/grub/grubenv');
  const update = await appliance.update();
  t.equal(part(update, 'state'), 'installing', `the install runs: ${JSON.stringify(update)}`);
  await appliance.powerCut();
  t.same(await runs(appliance), first, 'the same slot runs');
  await checkKept(t, kept, before);
  t.match(await appliance.shell.run('grub-editenv /efi/grub/grubenv list'), /^A_OK=1$/m, 'the boot loader has an environment again');
}

/** Returns the running slot and its version. */
async function runs(appliance: GuestAppliance): Promise<{ slot: unknown; version: unknown }> {
  const update = await appliance.update();
  return { slot: part(update, 'slot'), version: part(update, 'version') };
}

/** Bundles that are built while the guest works. */
export interface Bundles {
  /** Path of a newer version. */
  readonly good: Promise<string>;
  /** Path of a newer version whose service cannot start. */
  readonly bad: Promise<string>;
}

export function makeBundles({ board, folder }: Where): Bundles {
  const good = variantBundle({ board, folder: join(folder, 'newer'), version: newer });
  const bad = good.then(() => variantBundle({ board, folder: join(folder, 'broken'), version: broken, script: breakService }));
  bad.catch(() => undefined); // `checkUpdates` awaits it and gets the error
  return { good, bad };
}

/** Installs the uploaded bundle, then the broken one. The broken one first boots after a power cut in the middle of a backup. */
export async function checkUpdates(t: Test, kept: Kept, bundles: Bundles): Promise<void> {
  const { appliance, cuts } = kept;
  const state = await stateOf(kept);
  const first = await appliance.slot();
  await install(t, appliance);
  const before = await appliance.bootId();
  await appliance.api.call('POST', '/update/reboot', {});
  await appliance.restarted(before);
  t.not(await appliance.slot(), first, 'the other slot runs');
  t.equal(part(await appliance.update(), 'version'), newer, `it is ${newer}`);
  await checkKept(t, kept, state);

  await send(t, appliance, await bundles.bad);
  await install(t, appliance);
  await cuts.cut(t);
  t.equal(part(await appliance.update(), 'version'), newer, 'the previous version runs again');
  const tries = (await startsOfSlots(appliance)) - 1;
  t.ok(tries >= 1 && tries <= 3, `the boot loader tried the broken version ${tries} times`);
  await checkKept(t, kept, state);
}

/** Returns how often the boot loader has started a slot since power on. */
const startsOfSlots = async (appliance: GuestAppliance): Promise<number> =>
  (await appliance.machine.console()).match(/Starting slot/g)?.length ?? 0;

/** Waits until the health service has marked the running slot good, a while after the API answers. */
async function becomesGood(t: Test, appliance: GuestAppliance): Promise<void> {
  const isGood = async (): Promise<boolean> => {
    const slots = part(await appliance.update(), 'slots');
    const running = Array.isArray(slots) ? slots.find((slot) => part(slot, 'booted') === true) : undefined;
    return part(running, 'good') === true;
  };
  const until = Date.now() + 120_000;
  while (!(await isGood()) && Date.now() < until) await sleep(2000);
  t.ok(await isGood(), `the running slot is good: ${JSON.stringify(await appliance.update())}`);
}
