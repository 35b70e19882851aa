import { chmod, chown, mkdir, readdir, rename, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { PluginError } from '../../../core/contract/index.js';
import { carryExcluded } from '../../shared/carry.js';
import { childOutput } from '../../shared/child.js';
import { syncFolder } from '../../shared/durable.js';
import { removeTree } from '../../shared/mounts.js';
import { present } from '../../shared/places.js';
import type { Place } from './journal.js';

async function copyAttributes(from: string, to: string): Promise<void> {
  const { uid, gid, mode } = await stat(from);
  await chown(to, uid, gid);
  await chmod(to, mode & 0o7777);
}

/** What an entry-wise swap leaves alone inside the mount point: its own folder, those of older undos, and lost+found,
 *  which belongs to the file system. */
const isLeftAlone = (name: string) => name.startsWith('.container-backup-') || name === 'lost+found';

async function applyEntries(place: Place): Promise<void> {
  await mkdir(`${place.old}-making`);
  await copyAttributes(place.final, `${place.old}-making`); // before it is called old: a revert gives them back
  await rename(`${place.old}-making`, place.old);
  for (const name of await readdir(place.final)) {
    if (!isLeftAlone(name)) await rename(join(place.final, name), join(place.old, name));
  }
  for (const name of place.names) if (!isLeftAlone(name)) await rename(join(place.built, name), join(place.final, name));
  await carryExcluded(place.old, place.final, { excludes: place.excludes ?? [] });
  await copyAttributes(place.built, place.final);
  await syncFolder(place.final);
}

/** Before all was moved in, nothing was carried over yet. */
async function carryBack(place: Place): Promise<void> {
  for (const name of place.names) if (!isLeftAlone(name) && (await present(join(place.built, name)))) return;
  const own = place.scratch.map((path) => basename(path))[0];
  const except = own === undefined ? {} : { except: own };
  await carryExcluded(place.final, place.old, { excludes: place.excludes ?? [], parents: place.names.length > 0, ...except });
}

async function revertEntries(place: Place): Promise<void> {
  if (!(await present(place.old))) return;
  await carryBack(place);
  for (const name of place.names) {
    const moved = join(place.final, name);
    if (!isLeftAlone(name) && !(await present(join(place.built, name))) && (await present(moved)))
      await rename(moved, join(place.built, name));
  }
  for (const name of await readdir(place.old)) await rename(join(place.old, name), join(place.final, name));
  await copyAttributes(place.old, place.final);
  await syncFolder(place.final);
}

/** Puts what was built into its place and what was there aside. Durable when it resolves: the journal says so next, and
 *  volumes may lie on another file system than the journal. */
export async function applyPlace(place: Place): Promise<void> {
  if (place.mode === 'entries') return applyEntries(place);
  if (!place.hadFinal && (await present(place.final))) throw new PluginError('exists', `${place.final} came up meanwhile`);
  for (const parent of place.parents) await mkdir(parent, { recursive: true });
  if (place.hadFinal) await rename(place.final, place.old);
  await rename(place.built, place.final);
  if (place.hadFinal && place.excludes !== undefined) await carryExcluded(place.old, place.final, { excludes: place.excludes });
  await syncFolder(dirname(place.final));
}

/** The way back from wherever applyPlace came to; what is found where tells how far that was. */
export async function revertPlace(place: Place): Promise<void> {
  if (place.mode === 'entries') return revertEntries(place);
  const applied = !place.hadFinal || (await present(place.old));
  if (applied && !(await present(place.built)) && (await present(place.final))) {
    if (place.hadFinal && place.excludes !== undefined) await carryExcluded(place.final, place.old, { excludes: place.excludes });
    await rename(place.final, place.built);
  }
  if (place.hadFinal && (await present(place.old))) {
    await mkdir(dirname(place.final), { recursive: true }); // somebody may have removed the container since
    await rename(place.old, place.final);
  }
  if (await present(dirname(place.final))) await syncFolder(dirname(place.final));
  for (const parent of place.parents.toReversed()) await rmdir(parent).catch(() => undefined); // others may use it by now
}

/** Removes the draft's side of a place; with `old` also what was replaced. */
export async function clearPlace(place: Place, o: { old: boolean }): Promise<void> {
  if (o.old) await removeTree(place.old);
  for (const path of place.scratch) await removeTree(path);
}

/** Makes what was extracted durable before anything that exists is touched. */
export async function syncPlaces(places: readonly Place[]): Promise<void> {
  const built: string[] = [];
  for (const place of places) if (await present(place.built)) built.push(place.built);
  if (built.length > 0) await childOutput('sync', ['-f', '--', ...built]);
}
