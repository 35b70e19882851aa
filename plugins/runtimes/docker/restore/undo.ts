/** Docker's part of a swap: its containers, volumes, networks and images. */
import { PluginError } from '../../../../core/contract/index.js';
import { removeUnlocked } from '../../../shared/mounts.js';
import { orAbsent } from '../../../shared/presence.js';
import { clearPlace, overlap, removeHeld, type SwapEngine, swapBack } from '../../../shared/swap/index.js';
import type { Client } from '../engine/client.js';
import { engine } from '../engine/engine.js';
import { releaseImage } from '../engine/images.js';
import { text } from '../engine/json.js';
import { releaseNetworks } from '../engine/networks.js';
import { removeMadeFolder } from '../engine/volumes.js';
import { dockerUsers } from '../users.js';
import { adoptEarlier } from './earlier.js';
import { isNewContainer, type Journal, type Own, oldName, type SwapDeps, temporaryName } from './journal.js';

const byId = (client: Client, id: string) => (id === '' ? undefined : orAbsent(engine.inspect(client, id)));

/** Puts back what a swap moved, from any point at which it stopped. Idempotent. Starts the old container if it ran before. */
export async function revertSwap({ client, journals }: SwapDeps, journal: Journal): Promise<void> {
  const fresh = await byId(client, journal.newId);
  if (fresh && fresh.state !== 'stopped') await engine.stop(client, fresh);
  const old = await byId(client, journal.oldId);
  const isAside = old?.name === oldName(journal) || !isNewContainer(journal);
  if (old && old.state !== 'stopped' && isAside) await engine.stop(client, old);
  for (const place of journal.places.toReversed()) await swapBack(place, () => journals.write(journal));
  if (fresh?.name === journal.container) await engine.rename(client, journal.newId, temporaryName(journal));
  if (old?.name === oldName(journal)) await engine.rename(client, journal.oldId, journal.container);
  if (old && journal.oldRestart !== undefined) await engine.setRestart(client, journal.oldId, journal.oldRestart);
  if (old && journal.oldRunning) await engine.start(client, journal.oldId); // no error if it runs
  journal.phase = 'draft';
  await journals.write(journal);
}

/** Removes under unlocked inode flags; if the folder is unknown, it just tries once. */
const removeFrom = (folder: string | undefined, remove: () => Promise<unknown>): Promise<unknown> =>
  folder === undefined ? remove() : removeUnlocked(folder, remove);

async function removeContainer(client: Client, id: string): Promise<void> {
  const inspect = await byId(client, id);
  if (!inspect) return;
  const layer = text(inspect.layer.UpperDir) || (await engine.vfsRoot(client, inspect.id));
  await removeFrom(layer, () => engine.remove(client, inspect.id));
}

/** Removes a volume unless another container uses it by now, or excluded files were written into it since. */
async function removeVolume(client: Client, volume: string, { container, places }: Journal): Promise<void> {
  const path = await engine.volumePath(client, volume);
  const place = places.find(({ way, live }) => way === 'made' && live === path);
  const users = path === undefined ? [] : (await dockerUsers(client, container)).filter((user) => overlap(user.path, path));
  if (users.length > 0 || (place && (await removeHeld(place.live, place.excludes)))) return;
  const remove = () => orAbsent(client.json('DELETE', `/volumes/${encodeURIComponent(volume)}?force=1`));
  await removeFrom(path, () =>
    remove().catch((error: unknown) => {
      if (!(error instanceof PluginError && error.code === 'conflict')) throw error; // an old container kept for an undo uses it
    }),
  );
}

/** Removes everything that a draft created. */
export async function discardDraft(deps: SwapDeps, journal: Journal): Promise<void> {
  const { client } = deps;
  // the thread may have died between the create call and its answer: then only the temporary name is known
  if (isNewContainer(journal)) await removeContainer(client, journal.newId === '' ? temporaryName(journal) : journal.newId);
  const save = () => deps.journals.write(journal);
  for (const place of journal.places.toReversed()) await clearPlace(place, false, save);
  for (const volume of journal.volumes) await removeVolume(client, volume, journal);
  for (const place of journal.places.toReversed()) await removeMadeFolder(place, save);
  await releaseNetworks(deps, journal);
  await releaseImage(deps, journal);
}

/** After the commit point: removes the old container and old files, never its volumes. */
export async function finishSwap({ client, journals }: SwapDeps, journal: Journal): Promise<void> {
  if (journal.oldId !== '' && isNewContainer(journal)) await removeContainer(client, journal.oldId);
  for (const place of journal.places) await clearPlace(place, true, () => journals.write(journal));
}

/** Docker's part of the life of a swap. */
export function swapEngine(deps: SwapDeps): SwapEngine<Own> {
  return {
    revert: (journal) => revertSwap(deps, journal),
    // Image and networks of a container that was in use stay: others may use them by now.
    discard: (journal) => discardDraft(deps, journal.undoing ? { ...journal, image: '', tags: [], networks: [] } : journal),
    finish: (journal) => finishSwap(deps, journal),
    async checkKept(journal) {
      if (journal.oldId !== '' && !(await byId(deps.client, journal.oldId)))
        throw new PluginError('not_found', `the old container of undo ${journal.id} was removed by hand`);
    },
    adoptEarlier: () => adoptEarlier(deps),
    ownFolder: () => undefined, // the engine itself refuses to remove what is in use
    users: (container) => dockerUsers(deps.client, container),
  };
}
