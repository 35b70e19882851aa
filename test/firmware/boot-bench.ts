/** How long the image takes from power to an answer of the API, and without the service to all else that it starts.
 *  `make bench-firmware BOARD=`; for boards that GRUB starts. The first boot of each disk is not counted. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { GuestAppliance } from './appliance.js';

const run = promisify(execFile);
const board = process.env.BOARD ?? 'qemu-x86_64';
const rounds = 3;
const limitMs = 600_000;
/** Where the boot loader's partition begins. */
const esp = '1M';

/** Adds to the kernel's command line of a disk. */
async function addArguments(disk: string, added: string): Promise<void> {
  const file = join(folder, 'grub.cfg');
  await run('mcopy', ['-o', '-i', `${disk}@@${esp}`, '::grub/grub.cfg', file]);
  const text = await readFile(file, 'utf8');
  if (!text.includes(' rauc.slot=')) throw new Error('grub.cfg has no rauc.slot=');
  await writeFile(file, text.replace(' rauc.slot=', ` ${added} rauc.slot=`));
  await run('mcopy', ['-o', '-i', `${disk}@@${esp}`, file, '::grub/grub.cfg']);
}

/** Its first boot is behind it. */
async function startedOnce(): Promise<GuestAppliance> {
  const appliance = await GuestAppliance.boxed({ board, folder });
  await appliance.boot();
  await appliance.machine.says(/Setup code/, limitMs);
  await sleep(10_000); // what the first boot writes is on the disk
  await appliance.machine.cutPower();
  return appliance;
}

async function seconds(appliance: GuestAppliance, up: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await appliance.machine.start();
  await up();
  const taken = (performance.now() - began) / 1000;
  await sleep(5000);
  await appliance.machine.cutPower();
  return taken;
}

const folder = await mkdtemp(join(tmpdir(), 'boot-bench-'));
try {
  const times: Readonly<Record<'withService' | 'without', number[]>> = { withService: [], without: [] };
  await using appliance = await startedOnce();
  const { machine } = appliance;
  await addArguments(machine.disk, 'systemd.show_status=yes'); // the same words on the console in both
  for (let n = 0; n < rounds; n++) times.withService.push(await seconds(appliance, () => appliance.answers(limitMs)));
  await addArguments(machine.disk, 'systemd.mask=container-backup.service systemd.mask=container-backup-health.timer');
  for (let n = 0; n < rounds; n++) times.without.push(await seconds(appliance, () => machine.says(/Reached target .*multi-user/, limitMs)));
  const [withService = 0, without = 0] = [times.withService, times.without].map((all) => all.toSorted((a, b) => a - b)[1]);
  const listed = (all: readonly number[]): string => all.map((one) => one.toFixed(1)).join(', ');
  console.log(`${board}: power to an answer of the API ${listed(times.withService)} s`);
  console.log(`${board}: without the service, power to multi-user.target ${listed(times.without)} s`);
  console.log(`medians: ${(withService / without).toFixed(2)}`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
