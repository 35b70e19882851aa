/** Measures the time from power on until the API answers, and from power on until an image without the service has started
 *  everything else. Run it with `make bench-firmware BOARD=`. The first boot of each disk does not count. */
import { execFile } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { GuestAppliance } from './appliance.js';
import { variantBundle } from './bundles.js';

const run = promisify(execFile);
const board = process.env.BOARD ?? 'qemu-x86_64';
const rounds = 3;
const limitMs = 600_000;
/** Masks the service and its console page too: systemd prints no status while the page is shown. */
const withoutService = `
  for unit in container-backup container-backup-console@ container-backup-health; do ln -sf /dev/null etc/systemd/system/$unit.service; done
  ln -sf /dev/null etc/systemd/system/container-backup-health.timer`;

/** Returns the offset of a partition on the disk, in bytes. */
async function startOf(disk: string, label: string): Promise<number> {
  const { stdout } = await run('sfdisk', ['--dump', disk]);
  const [, sector] = new RegExp(`start= *(\\d+),.*name="${label}"`).exec(stdout) ?? [];
  if (sector === undefined) throw new Error(`no partition ${label}`);
  return Number(sector) * 512;
}

/** Writes a root file system without the service to slot A of the disk. */
async function takeServiceAway(disk: string): Promise<void> {
  const made = join(folder, 'without');
  await variantBundle({ board, folder: made, version: '99.0.1', script: withoutService });
  const start = await startOf(disk, 'root-a');
  await pipeline(createReadStream(join(made, 'work', board, 'root.squashfs')), createWriteStream(disk, { flags: 'r+', start }));
}

/** Boots an appliance once and switches it off. */
async function startedOnce(): Promise<GuestAppliance> {
  const appliance = await GuestAppliance.boxed({ board, folder });
  await appliance.boot();
  await appliance.machine.says(/Setup code/, limitMs);
  await sleep(10_000); // until the first boot's writes are on the disk
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
  for (let n = 0; n < rounds; n++) times.withService.push(await seconds(appliance, () => appliance.answers()));
  await takeServiceAway(machine.disk);
  for (let n = 0; n < rounds; n++) times.without.push(await seconds(appliance, () => machine.says(/Reached target .*multi-user/, limitMs)));
  const [withService = 0, without = 0] = [times.withService, times.without].map((all) => all.toSorted((a, b) => a - b)[1]);
  const listed = (all: readonly number[]): string => all.map((one) => one.toFixed(1)).join(', ');
  console.log(`${board}: power to an answer of the API ${listed(times.withService)} s`);
  console.log(`${board}: without the service, power to multi-user.target ${listed(times.without)} s`);
  console.log(`medians: ${(withService / without).toFixed(2)}`);
} finally {
  await rm(folder, { recursive: true, force: true });
}
