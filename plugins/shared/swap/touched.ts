/** What a swap changes only for a moment: inode flags that forbid a rename, times of folders that names come to or go from. It stands
 *  in the journal meanwhile, so that whoever comes after a crash can give it back. */
import { rename } from 'node:fs/promises';
import { syncFolder } from '../durable.js';
import { present } from '../places.js';
import { isForbidden, lockPath, locksOf, setTime, syncFileSystem, timeOf, unlockPath } from './attributes.js';

/** A folder or file, and what it is to be again. */
export interface Touched {
  /** Where it lies after a rename, and before; bytes written as latin-1. */
  readonly paths: readonly string[];
  /** Its inode flags that forbid changes, `i` and `a`. */
  readonly flags: string;
  /** Of a folder, in ns since the epoch. */
  readonly mtime?: string;
}

/** What keeps a list of it in its journal. */
interface Listed {
  touched?: readonly Touched[];
}

const toText = (path: Buffer): string => path.toString('latin1');
const toPath = (text: string): Buffer => Buffer.from(text, 'latin1');

async function placeOf({ paths }: Touched): Promise<Buffer | undefined> {
  for (const path of paths.map(toPath)) if (await present(path)) return path;
  return undefined;
}

/** Twice is fine. Durable when it resolves. */
async function giveBack(touched: readonly Touched[]): Promise<void> {
  let last: Buffer | undefined;
  for (const one of touched.toReversed()) {
    const path = await placeOf(one);
    if (path === undefined) continue;
    if (one.mtime !== undefined && String(await timeOf(path)) !== one.mtime) {
      if (one.flags !== '') await unlockPath(path); // nobody sets the time of what is immutable
      await setTime(path, BigInt(one.mtime));
    }
    await lockPath(path, one.flags);
    last = path;
  }
  if (last === undefined) return;
  // all of them lie on one file system
  await (touched.length > 1 ? syncFileSystem(last) : syncFolder(last));
}

/** Gives back what a crash left changed in a place. */
export async function giveBackTouched(place: Listed): Promise<void> {
  await giveBack(place.touched ?? []);
  place.touched = [];
}

/** What of one place is changed for a moment. */
export class TouchLog {
  /** @param save makes the place's journal durable */
  constructor(
    private readonly place: Listed,
    private readonly save: () => Promise<void>,
  ) {}

  /** Renames also what is immutable or append-only; it keeps its flags. The folders on both sides must be free of them. */
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

  /** Does something in folders whose times, and flags if `unlock`, are the same afterwards.
   *  @param mtime of all of them, if it is to be another one than before */
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

  /** The journal forgets them with its next change; until then to give them back once more does no harm. */
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
