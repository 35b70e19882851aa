/** Reserved room for writes that must succeed: leases, results of runs, deletions. It is a file, removed when the disk is full and
 *  made again when there is room. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { PluginLog } from '../../contract/index.js';
import { syncFolder } from '../../primitives/durable.js';
import { freeBytes, isNoSpace } from '../failure.js';

/** Twice what LevelDB writes at once when its log is full (4 MiB). */
export const reserveBytes = 8 << 20;
/** Free room to leave beside it, so that the next write does not use the reserve at once. */
const spareBytes = 1 << 20;

export class Reserve {
  #held = false;

  constructor(
    private readonly folder: string,
    private readonly log: PluginLog,
  ) {}

  /** Removes an earlier reserve on an almost full disk, before the state is opened. */
  async makeRoom(): Promise<void> {
    await rm(`${this.#file}.new`, { force: true }); // left by a crash
    if ((await freeBytes(this.folder)) > spareBytes) return;
    this.#held = (await stat(this.#file).catch(() => undefined)) !== undefined;
    await this.release();
  }

  /** Adopts the file of an earlier start, or makes it. Does not throw when there is no room. */
  async open(): Promise<void> {
    const { size } = await stat(this.#file).catch(() => ({ size: 0 }));
    this.#held = size === reserveBytes;
    await this.hold();
  }

  /** Makes the file if it can. @returns whether the room is reserved */
  async hold(): Promise<boolean> {
    if (this.#held) return true;
    if ((await freeBytes(this.folder)) < reserveBytes + spareBytes) return false;
    try {
      await using handle = await open(`${this.#file}.new`, 'w', 0o600);
      await handle.writeFile(randomBytes(reserveBytes)); // random: a file system with compression would reserve nothing for zeros
      await handle.sync();
      await rename(`${this.#file}.new`, this.#file);
      this.#held = true;
    } catch (error) {
      await rm(`${this.#file}.new`, { force: true });
      if (!isNoSpace(error)) this.log('warn', `the reserve of ${reserveBytes} bytes cannot be made: ${error}`);
    }
    return this.#held;
  }

  /** Removes the file to free the room. @returns false when there was no reserve */
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
