/** Notes the temporary folders on servers before they are made. A target removes its folder when it is closed. If the server
 *  or the process is gone by then, the next target that writes to the same location removes it. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isPart } from '../../shared/paths.js';
import { writeDurably } from '../../shared/primitives/durable.js';
import { isFields } from '../../shared/primitives/guards.js';
import { isAlive, nobody, type Owner, ownerOfThisThread } from '../../shared/primitives/owner.js';

const suffix = '.json';

export class Leftovers {
  /** @param location the server, the login and the folder on it, as one text */
  constructor(
    readonly stateFolder: string,
    readonly location: string,
  ) {}

  /** Notes a folder before it is made. Resolves after fsync. */
  async note(name: string): Promise<void> {
    await this.#write(name, ownerOfThisThread());
  }

  /** Gives up a folder that may still be on the server: a later target removes it. */
  async abandon(name: string): Promise<void> {
    await this.#write(name, nobody);
  }

  /** Drops the notes of folders that were removed. */
  async forget(names: readonly string[]): Promise<void> {
    for (const name of names) await rm(join(this.stateFolder, name + suffix), { force: true });
  }

  /** Names of the folders at this location whose thread has ended. */
  async abandoned(): Promise<string[]> {
    const names: string[] = [];
    for (const file of await readdir(this.stateFolder)) {
      const name = file.slice(0, -suffix.length);
      if (file.endsWith(suffix) && isPart(name) && (await this.#isAbandoned(file))) names.push(name);
    }
    return names;
  }

  async #isAbandoned(file: string): Promise<boolean> {
    const text = await readFile(join(this.stateFolder, file), 'utf8').catch(() => ''); // another thread may have removed it
    const note = noteIn(text);
    return note?.location === this.location && !isAlive(note.owner);
  }

  async #write(name: string, owner: Owner): Promise<void> {
    const content = JSON.stringify({ place: this.location, owner });
    await writeDurably(this.stateFolder, name + suffix, content, `${name}${suffix}.new`);
  }
}

function noteIn(text: string): { readonly location: string; readonly owner: Owner } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // a note that a crash cut off: its folder was not made yet
  }
  if (!isFields(value) || typeof value.place !== 'string' || !isFields(value.owner)) return undefined;
  const { task, started } = value.owner;
  return typeof task === 'string' && typeof started === 'string' ? { location: value.place, owner: { task, started } } : undefined;
}
