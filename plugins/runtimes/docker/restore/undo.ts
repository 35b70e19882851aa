/** What only Docker can do about a swap: its containers, volumes, networks and images. */
import { PluginError } from '../../../../core/contract/index.js';
import { removeUnlocked } from '../../../shared/mounts.js';
import { orAbsent } from '../../../shared/places.js';
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

/** Puts back what a swap moved, from whatever point it stopped at; twice is fine. The old container runs again if it did. */
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
  if (old && journal.oldRunning) await engine.start(client, journal.oldId); // fine when it runs
  journal.phase = 'draft';
  await journals.write(journal);
}

/** Where nothing names the folder, it is tried once. */
const removeFrom = (folder: string | undefined, remove: () => Promise<unknown>): Promise<unknown> =>
  folder === undefined ? remove() : removeUnlocked(folder, remove);

async function removeContainer(client: Client, id: string): Promise<void> {
  const inspect = await byId(client, id);
  if (!inspect) return;
  const layer = text(inspect.layer.UpperDir) || (await engine.vfsRoot(client, inspect.id));
  await removeFrom(layer, () => engine.remove(client, inspect.id));
}

/** One that another container has by now is that one's, and what came into it that the run leaves out stays. */
async function removeVolume(client: Client, volume: string, { container, places }: Journal): Promise<void> {
  const path = await engine.volumePath(client, volume);
  const place = places.find(({ way, live }) => way === 'made' && live === path);
  const users = path === undefined ? [] : (await dockerUsers(client, container)).filter((user) => overlap(user.path, path));
  if (users.length > 0 || (place && (await removeHeld(place.live, place.excludes)))) return;
  const remove = () => orAbsent(client.json('DELETE', `/volumes/${encodeURIComponent(volume)}?force=1`));
  await removeFrom(path, () =>
    remove().catch((error: unknown) => {
      if (!(error instanceof PluginError && error.code === 'conflict')) throw error; // one that is kept for an undo has it
    }),
  );
}

/** Removes everything that a draft made. */
export async function discardDraft(deps: SwapDeps, journal: Journal): Promise<void> {
  const { client } = deps;
  // it may die between the call and its answer
  if (isNewContainer(journal)) await removeContainer(client, journal.newId === '' ? temporaryName(journal) : journal.newId);
  const save = () => deps.journals.write(journal);
  for (const place of journal.places.toReversed()) await clearPlace(place, false, save);
  for (const volume of journal.volumes) await removeVolume(client, volume, journal);
  for (const place of journal.places.toReversed()) await removeMadeFolder(place, save);
  await releaseNetworks(deps, journal);
  await releaseImage(deps, journal);
}

/** Past the commit point: removes what was replaced, never its volumes. */
export async function finishSwap({ client, journals }: SwapDeps, journal: Journal): Promise<void> {
  if (journal.oldId !== '' && isNewContainer(journal)) await removeContainer(client, journal.oldId);
  for (const place of journal.places) await clearPlace(place, true, () => journals.write(journal));
}

/** Docker's part of the life of a swap. */
export function swapEngine(deps: SwapDeps): SwapEngine<Own> {
  return {
    revert: (journal) => revertSwap(deps, journal),
    // Image and networks of one that was in use stay: others may use them by now.
    discard: (journal) => discardDraft(deps, journal.undoing ? { ...journal, image: '', tags: [], networks: [] } : journal),
    finish: (journal) => finishSwap(deps, journal),
    async checkKept(journal) {
      if (journal.oldId !== '' && !(await byId(deps.client, journal.oldId)))
        throw new PluginError('not_found', `the container that undo ${journal.id} kept was removed by hand`);
    },
    adoptEarlier: () => adoptEarlier(deps),
    ownFolder: () => undefined, // the engine keeps what is in use
    users: (container) => dockerUsers(deps.client, container),
  };
}
