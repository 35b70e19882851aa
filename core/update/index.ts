/** Updates of the firmware: takes a bundle in, checks every bit of it, has RAUC install it to the other slot, restarts.
 *  The decision to trust is RAUC's and its keyring's; when it is a good time is decided here.
 *  Whether the new system is healthy, and so stays, is decided by the image's own health service. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { BundleFolder } from './bundle.js';
import { openRauc } from './rauc.js';
import { type StateDeps, UpdateDesk } from './state.js';

export { UpdateDesk } from './state.js';

export interface UpdateOptions extends Pick<StateDeps, 'jobs' | 'signal' | 'log'> {
  readonly folder: string;
  /** Of another configuration than /etc/rauc/system.conf. */
  readonly raucConfig?: string;
  /** For tests; else the machine's own. */
  readonly releaseFile?: string;
  readonly restart?: () => Promise<void>;
  readonly stallMs?: number;
}

const run = promisify(execFile);

/** IMAGE_VERSION of os-release, as it belongs to the system that runs, however that came onto the disk. */
async function imageVersion(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return /^IMAGE_VERSION=(["']?)(.*)\1$/m.exec(text)?.[2] ?? '';
}

export async function openUpdates(o: UpdateOptions): Promise<UpdateDesk> {
  const desk = new UpdateDesk({
    rauc: openRauc(o.raucConfig),
    bundles: new BundleFolder(o.folder),
    version: () => imageVersion(o.releaseFile ?? '/etc/os-release'),
    jobs: o.jobs,
    restart: o.restart ?? (async () => void (await run('systemctl', ['reboot'], { timeout: 30_000 }))),
    stallMs: o.stallMs ?? 60_000,
    signal: o.signal,
    log: o.log,
  });
  await desk.open();
  return desk;
}
