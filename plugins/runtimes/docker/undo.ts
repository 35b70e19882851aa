import type { Client } from './client.js';
import { engine, orAbsent } from './engine.js';
import { unloadImage } from './images.js';
import { type Journal, oldName, removeJournal, temporaryName, writeJournal } from './journal.js';
import { clearPlace, swapBack } from './place.js';

export interface UndoDeps {
  readonly client: Client;
  readonly stateFolder: string;
}

/** Puts back what a swap moved, from whatever point it stopped at; twice is fine. The old container runs again if it did. */
export async function revertSwap({ client, stateFolder }: UndoDeps, journal: Journal): Promise<void> {
  const fresh = await orAbsent(engine.inspect(client, journal.newId));
  if (fresh && fresh.state !== 'stopped') await engine.stop(client, fresh);
  const old = journal.oldId === '' ? undefined : await orAbsent(engine.inspect(client, journal.oldId));
  if (old && old.state !== 'stopped' && old.name === oldName(journal)) await engine.stop(client, old);
  for (const place of [...journal.places].reverse()) await swapBack(place);
  if (fresh?.name === journal.container) await engine.rename(client, journal.newId, temporaryName(journal));
  if (old?.name === oldName(journal)) await engine.rename(client, journal.oldId, journal.container);
  if (old && journal.oldRunning) await engine.start(client, journal.oldId); // fine when it runs
  journal.phase = 'draft';
  await writeJournal(stateFolder, journal);
}

/** Removes everything that a draft made. */
export async function discardDraft({ client, stateFolder }: UndoDeps, journal: Journal): Promise<void> {
  await engine.remove(client, journal.newId === '' ? temporaryName(journal) : journal.newId); // it may die between the call and its answer
  for (const place of journal.places) await clearPlace(place, false);
  for (const volume of journal.volumes) await orAbsent(client.json('DELETE', `/volumes/${encodeURIComponent(volume)}?force=1`));
  for (const network of journal.networks) await orAbsent(client.json('DELETE', `/networks/${encodeURIComponent(network)}`));
  await unloadImage(client, journal.image, journal.tags);
  await removeJournal(stateFolder, journal);
}

/** Past the commit point: removes what was replaced, never its volumes. */
export async function finishSwap({ client, stateFolder }: UndoDeps, journal: Journal): Promise<void> {
  if (journal.oldId !== '') await engine.remove(client, journal.oldId);
  for (const place of journal.places) await clearPlace(place, true);
  await removeJournal(stateFolder, journal);
}
