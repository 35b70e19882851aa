/** The blocks of a level on their way to the target. In a pause they are read at once, and wait until the target takes them. */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { type BlockPlan, type Drained, drain, emptyReport, findMoved, type MovedFiles, packBlocks } from '../../../archive/index.js';

/** Bytes that wait in memory while the container runs, and in a pause. */
const liveBytes = 4 << 20;
const pauseBytes = 8 << 20;
/** The most that waits in the work folder beyond them. */
const mostDiskBytes = 4 * 2 ** 30;

export class BlockStream {
  readonly report = emptyReport();
  /** The files that moved while they were read. Resolves when nothing of the source is needed any more: the container may be resumed. */
  readonly moved: Promise<MovedFiles | undefined>;
  #drained: Promise<Drained> | undefined;
  #settle: { resolve(): void; reject(error: unknown): void } | undefined;

  /** @param waitsIn path for a file of what waits; without it nothing is read before somebody takes it */
  constructor(
    private readonly plan: BlockPlan,
    private readonly waitsIn: string | undefined,
  ) {
    const read = new Promise<void>((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.moved = read.then(() => this.#moved());
    this.moved.catch(() => undefined); // whoever asks gets the error; this only marks it as handled
    if (waitsIn !== undefined) this.#begin();
  }

  /** The archive's bytes; undefined when no file differs. */
  async open(): Promise<Readable | undefined> {
    const { stream } = await this.#begin();
    const isEmpty = await new Promise<boolean>((resolve, reject) => {
      stream.once('readable', () => resolve(stream.readableLength === 0));
      stream.once('end', () => resolve(true));
      stream.once('error', reject);
    });
    if (!isEmpty) return stream;
    stream.resume();
    return undefined;
  }

  /** Nobody will take the bytes. */
  giveUp(error: unknown): void {
    this.#settle?.reject(error);
    this.#drained?.then(({ stream }) => stream.destroy()).catch(() => undefined);
  }

  #begin(): Promise<Drained> {
    this.#drained ??= this.#drain();
    this.#drained.catch((error: unknown) => this.#settle?.reject(error));
    return this.#drained;
  }

  async #drain(): Promise<Drained> {
    const file = this.waitsIn;
    const room =
      file === undefined ? { memory: liveBytes, disk: 0, file: '' } : { memory: pauseBytes, disk: await diskRoom(dirname(file)), file };
    const plan = { ...this.plan, clones: file !== undefined };
    const drained = drain(
      packBlocks(plan, this.report, () => this.#settle?.resolve()),
      room,
    );
    drained.read.catch((error: unknown) => this.#settle?.reject(error));
    return drained;
  }

  async #moved(): Promise<MovedFiles | undefined> {
    const { moved, movedBytes } = this.report;
    return moved.length === 0 ? undefined : findMoved(this.plan, moved, movedBytes);
  }
}

/** A quarter of what is free: other runs wait there, too, and the state folder must stay writable. */
async function diskRoom(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return Math.min(mostDiskBytes, Math.floor((bavail * bsize) / 4));
}
