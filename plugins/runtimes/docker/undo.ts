import { PluginError } from '../../../core/contract/index.js';
import type { Client } from './client.js';
import { engine, orAbsent } from './engine.js';
import { unloadImage } from './images.js';
import { isAlive, type Journal, oldName, ownerOfThisThread, readJournals, removeJournal, temporaryName, writeJournal } from './journal.js';
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
  if (old && journal.oldRestart !== undefined) await engine.setRestart(client, journal.oldId, journal.oldRestart);
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

const isKept = (journal: Journal) => journal.phase === 'done' && journal.undoUntil > 0;

/** An undo that failed; it can be asked for again. */
const isHalfUndone = (journal: Journal) => journal.phase !== 'done' && journal.undoUntil > 0 && !isAlive(journal);

/** Only the latest replacement of a container can be undone. */
export async function dropUndosOf(deps: UndoDeps, latest: Journal): Promise<void> {
  for (const journal of await readJournals(deps.stateFolder)) {
    if (journal.rand !== latest.rand && journal.container === latest.container && isKept(journal)) await finishSwap(deps, journal);
  }
}

/** Removes what a commit kept; absent is fine. */
export async function dropUndo(deps: UndoDeps, id: string): Promise<void> {
  for (const journal of await readJournals(deps.stateFolder)) if (journal.rand === id && isKept(journal)) await finishSwap(deps, journal);
}

/** Brings back what a commit replaced. @throws PluginError not_found */
export async function undoSwap(deps: UndoDeps, id: string): Promise<void> {
  const kept = (await readJournals(deps.stateFolder)).find((one) => one.rand === id && (isKept(one) || isHalfUndone(one)));
  if (!kept || (isKept(kept) && kept.undoUntil < Date.now())) throw new PluginError('not_found', `what undo ${id} kept is gone`);
  if (!(await orAbsent(engine.inspect(deps.client, kept.oldId)))) {
    throw new PluginError('not_found', `the container that undo ${id} kept was removed by hand`);
  }
  // From here on a crash or a failure ends the way back, too. Image and networks stay: others may use them by now.
  await takeOver(deps, { ...kept, phase: 'swap', image: '', tags: [], networks: [] });
}

/** Ends what a dead draft left: goes back, or removes what was replaced. It is claimed first: main and a worker may both
 *  look after it. */
export async function takeOver(deps: UndoDeps, dead: Journal): Promise<void> {
  const journal: Journal = { ...dead, owner: ownerOfThisThread() };
  await writeJournal(deps.stateFolder, journal);
  try {
    if (journal.phase === 'done') return await finishSwap(deps, journal);
    if (journal.phase === 'swap') await revertSwap(deps, journal);
    await discardDraft(deps, journal);
  } catch (error) {
    await writeJournal(deps.stateFolder, { ...journal, owner: { task: '', started: '' } }).catch(() => undefined); // for the next look
    throw error;
  }
}
