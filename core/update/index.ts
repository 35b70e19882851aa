/** Updates of the firmware: receives a bundle, checks each bit of it, has RAUC install it into the other slot, and restarts.
 *  RAUC and its keyring decide whom to trust. This room decides when to install. The image's health service decides whether the
 *  new system is healthy and stays. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { BundleFolder } from './bundle.js';
import { openRauc } from './rauc.js';
import { type UpdateDeps, UpdateService } from './service.js';

export { UpdateService } from './service.js';

export interface UpdateOptions extends Pick<UpdateDeps, 'jobs' | 'signal' | 'log'> {
  readonly folder: string;
  /** RAUC's configuration. Default: /etc/rauc/system.conf. */
  readonly raucConfig?: string;
  /** Tests give their own. Default: the machine's os-release and its restart. */
  readonly releaseFile?: string;
  readonly restart?: () => Promise<void>;
  readonly stallMs?: number;
}

const run = promisify(execFile);

/** IMAGE_VERSION of os-release: the version of the running system, whether it was flashed or updated. */
async function imageVersion(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return /^IMAGE_VERSION=(["']?)(.*)\1$/m.exec(text)?.[2] ?? '';
}

export async function openUpdates(o: UpdateOptions): Promise<UpdateService> {
  const updates = new UpdateService({
    rauc: openRauc(o.raucConfig),
    bundles: new BundleFolder(o.folder),
    version: () => imageVersion(o.releaseFile ?? '/etc/os-release'),
    jobs: o.jobs,
    restart: o.restart ?? (async () => void (await run('systemctl', ['reboot'], { timeout: 30_000 }))),
    stallMs: o.stallMs ?? 60_000,
    signal: o.signal,
    log: o.log,
  });
  await updates.open();
  return updates;
}
