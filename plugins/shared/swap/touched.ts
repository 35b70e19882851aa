/** Temporary changes of a swap: inode flags cleared for a rename, mtimes of folders that a rename changes. The journal names them
 *  meanwhile, so that a recovery after a crash can give them back. */
import { rename } from 'node:fs/promises';
import { present } from '../presence.js';
import { syncFolder } from '../primitives/durable.js';
import { isForbidden, lockPath, locksOf, setTime, syncFileSystem, timeOf, unlockPath } from './attributes.js';

/** A folder or file, and the state to give back. */
export interface Touched {
  /** Its path after a rename, then before it; bytes as latin-1. */
  readonly paths: readonly string[];
  /** Its inode flags `i` and `a`. */
  readonly flags: string;
  /** mtime of a folder in ns since the epoch. */
  readonly mtime?: string;
}

/** A journal entry that stores the list. */
interface Listed {
  touched?: readonly Touched[];
}

const toText = (path: Buffer): string => path.toString('latin1');
const toPath = (text: string): Buffer => Buffer.from(text, 'latin1');

async function findPath({ paths }: Touched): Promise<Buffer | undefined> {
  for (const path of paths.map(toPath)) if (await present(path)) return path;
  return undefined;
}

/** Restores flags and mtimes. Idempotent. Durable when it resolves. */
async function giveBack(touched: readonly Touched[]): Promise<void> {
  let last: Buffer | undefined;
  for (const one of touched.toReversed()) {
    const path = await findPath(one);
    if (path === undefined) continue;
    if (one.mtime !== undefined && String(await timeOf(path)) !== one.mtime) {
      if (one.flags !== '') await unlockPath(path); // nobody can set the mtime of an immutable folder
      await setTime(path, BigInt(one.mtime));
    }
    await lockPath(path, one.flags);
    last = path;
  }
  if (last === undefined) return;
  // all of them lie on one file system
  await (touched.length > 1 ? syncFileSystem(last) : syncFolder(last));
}

/** Restores what a crash left changed in a place. */
export async function giveBackTouched(place: Listed): Promise<void> {
  await giveBack(place.touched ?? []);
  place.touched = [];
}

/** Records one place's temporary changes. */
export class TouchLog {
  /** @param save writes the place's journal durably */
  constructor(
    private readonly place: Listed,
    private readonly save: () => Promise<void>,
  ) {}

  /** Renames an entry even if it is immutable or append-only; it keeps its flags. Both parent folders must have neither flag. */
  async rename(from: Buffer, to: Buffer): Promise<void> {
    try {
      return await rename(from, to);
    } catch (error) {
      const flags = isForbidden(error) ? await locksOf(from) : '';
      if (flags === '') throw error;
      await this.#meanwhile([{ paths: [toText(to), toText(from)], flags }], async () => {
        await unlockPath(from);
        await rename(from, to);
      });
    }
  }

  /** Runs `action` in folders, then restores their mtimes, and their flags if `unlock`.
   *  @param mtime for all of them, instead of their own */
  async keep(
    folders: readonly Buffer[],
    o: { readonly unlock: boolean; readonly mtime?: string },
    action: () => Promise<unknown>,
  ): Promise<void> {
    const before: Touched[] = [];
    for (const folder of folders) {
      const flags = o.unlock ? await locksOf(folder) : '';
      before.push({ paths: [toText(folder)], flags, mtime: o.mtime ?? String(await timeOf(folder)) });
    }
    await this.#meanwhile(before, async () => {
      for (const { paths, flags } of before) if (flags !== '') for (const path of paths) await unlockPath(toPath(path));
      await action();
    });
  }

  /** Drops the entries from memory only; the next write of the journal removes them. Restoring twice does no harm. */
  async #meanwhile(touched: readonly Touched[], action: () => Promise<unknown>): Promise<void> {
    this.place.touched = [...(this.place.touched ?? []), ...touched];
    await this.save();
    try {
      await action();
    } finally {
      await giveBack(touched);
    }
    this.place.touched = this.place.touched.filter((one) => !touched.includes(one));
  }
}
