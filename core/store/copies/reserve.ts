/** Room that is kept for what must always be written: leases, the results of runs, deletions. A file, removed when the disk is
 *  full and made again when there is room. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { PluginLog } from '../../contract/index.js';
import { syncFolder } from '../../durable.js';
import { freeBytes, isNoSpace } from '../failure.js';

/** Twice what LevelDB writes at once when its log is full (4 MiB). */
export const reserveBytes = 8 << 20;
/** What stays free beside it, so that the next write does not take it at once. */
const spareBytes = 1 << 20;

export class Reserve {
  #held = false;

  constructor(
    private readonly folder: string,
    private readonly log: PluginLog,
  ) {}

  /** Before the state is opened on a disk that is all but full: gives the room back that an earlier start kept. */
  async makeRoom(): Promise<void> {
    await rm(`${this.#file}.new`, { force: true }); // a crash left it
    if ((await freeBytes(this.folder)) > spareBytes) return;
    this.#held = (await stat(this.#file).catch(() => undefined)) !== undefined;
    await this.release();
  }

  /** Takes what an earlier start left, or makes it. No room for it is told, not thrown. */
  async open(): Promise<void> {
    const { size } = await stat(this.#file).catch(() => ({ size: 0 }));
    this.#held = size === reserveBytes;
    await this.hold();
  }

  /** Whether the room is kept; makes the file again if it can. */
  async hold(): Promise<boolean> {
    if (this.#held) return true;
    if ((await freeBytes(this.folder)) < reserveBytes + spareBytes) return false;
    try {
      await using handle = await open(`${this.#file}.new`, 'w', 0o600);
      await handle.writeFile(randomBytes(reserveBytes)); // a file system that compresses would keep nothing for zeros
      await handle.sync();
      await rename(`${this.#file}.new`, this.#file);
      this.#held = true;
    } catch (error) {
      await rm(`${this.#file}.new`, { force: true });
      if (!isNoSpace(error)) this.log('warn', `the reserve of ${reserveBytes} bytes cannot be made: ${error}`);
    }
    return this.#held;
  }

  /** Gives the room back to the disk. @returns false when there was none */
  async release(): Promise<boolean> {
    if (!this.#held) return false;
    this.#held = false;
    await rm(this.#file, { force: true });
    await syncFolder(this.folder);
    this.log(
      'warn',
      `${this.folder} is full; the reserve of ${reserveBytes} bytes is used for leases, results and deletions until there is room`,
    );
    return true;
  }

  get #file(): string {
    return join(this.folder, 'reserve');
  }
}
