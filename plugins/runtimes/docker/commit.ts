import { type Conflict, PluginError, type RestorePlan } from '../../../core/contract/index.js';
import { startConflicts } from './conflicts.js';
import { engine } from './engine.js';
import type { Inspect } from './inspect.js';
import { type Journal, oldName, writeJournal } from './journal.js';
import { fields, flag, text } from './narrow.js';
import { preparePlace, swapIn } from './place.js';
import { dependentConflicts } from './references.js';
import { dropUndosOf, finishSwap, revertSwap, type UndoDeps } from './undo.js';

async function stopOld({ client }: UndoDeps, journal: Journal): Promise<void> {
  const old = await engine.inspect(client, journal.oldId);
  if (old.state !== 'stopped') await engine.stop(client, old);
  await engine.setRestart(client, old.id, { Name: 'no' });
  await engine.rename(client, old.id, oldName(journal));
}

/** @throws PluginError when stopping the old one would already destroy it */
async function noteOld({ client }: UndoDeps, journal: Journal): Promise<void> {
  const old = await engine.inspect(client, journal.container);
  if (flag(old.host.AutoRemove) && old.state !== 'stopped') {
    throw new PluginError('unsupported', `${old.name} was started with --rm and would be gone when stopped: remove it, then create`);
  }
  journal.oldId = old.id;
  journal.oldRunning = old.state !== 'stopped';
  journal.oldRestart = old.host.RestartPolicy;
}

async function swap(deps: UndoDeps, journal: Journal, restart: unknown): Promise<void> {
  const { client } = deps;
  if (journal.oldId !== '') await stopOld(deps, journal);
  for (const place of journal.places) await swapIn(place);
  await engine.rename(client, journal.newId, journal.container);
  const policy = text(fields(restart).Name);
  if (policy !== '' && policy !== 'no') await engine.setRestart(client, journal.newId, restart);
}

/** Swaps the draft in. On any failure everything is as it was, and the error says why. The commit point is the journal's
 *  `done`, written after the new container started. */
export async function commitDraft(
  deps: UndoDeps,
  plan: RestorePlan,
  inspect: Inspect,
  journal: Journal,
  restart: unknown,
): Promise<{ readonly conflicts: readonly Conflict[]; readonly undo?: string }> {
  const replace = plan.action === 'replace';
  if (replace) await noteOld(deps, journal);
  for (const place of journal.places) await preparePlace(place);
  const conflicts = replace ? await dependentConflicts(deps.client, plan.container) : await startConflicts(deps.client, inspect, '');
  const start = replace ? journal.oldRunning : plan.description.state !== 'stopped' && conflicts.length === 0;
  journal.phase = 'swap';
  await writeJournal(deps.stateFolder, journal);
  try {
    await swap(deps, journal, restart);
    if (start) await engine.start(deps.client, journal.newId);
    if (replace) journal.undoUntil = plan.undoUntil ?? 0;
    await writeJournal(deps.stateFolder, { ...journal, phase: 'done' });
  } catch (error) {
    await revertSwap(deps, journal).catch((cause: unknown) => {
      const message = `Restoring ${journal.container} failed (${String(error)}) and so did going back; recover tries again`;
      throw new PluginError('failed', message, { cause });
    });
    throw error;
  }
  journal.phase = 'done';
  // Only now: a restore that fails must not cost the undo of the one before.
  if (replace) await dropUndosOf(deps, journal).catch(() => undefined);
  if (journal.undoUntil > 0) return { conflicts, undo: journal.rand };
  // What fails from here on is only litter: the container is restored, and recover ends the work by the journal.
  await finishSwap(deps, journal).catch(() => undefined);
  return { conflicts };
}
