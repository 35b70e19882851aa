import type { Committed, Conflict, RestorePlan } from '../../../../core/contract/index.js';
import { PluginError } from '../../../../core/contract/index.js';
import { missingConflicts } from '../../../shared/conflicts.js';
import { keptBytes, refuseRunning, type Swaps, swapPlaces } from '../../../shared/swap/index.js';
import { engine } from '../engine/engine.js';
import type { Inspect } from '../engine/inspect.js';
import { fields, flag, text } from '../engine/json.js';
import { dockerUsers } from '../users.js';
import { missingMounts, startConflicts } from './conflicts.js';
import { isNewContainer, type Journal, type Own, oldName, type SwapDeps } from './journal.js';
import { type Decision, placementOf } from './placement.js';
import { dependentConflicts } from './references.js';
import { finishSwap, revertSwap } from './undo.js';

export interface CommitDeps extends SwapDeps {
  readonly swaps: Swaps<Own>;
}

/** What a commit swaps in. */
export interface Filled {
  readonly plan: RestorePlan;
  readonly inspect: Inspect;
  readonly journal: Journal;
  readonly decisions: readonly Decision[];
  /** The restart policy that the new container gets. */
  readonly restart: unknown;
}

async function stopOld({ client }: SwapDeps, journal: Journal): Promise<void> {
  const old = await engine.inspect(client, journal.oldId);
  if (old.state !== 'stopped') await engine.stop(client, old);
  await engine.setRestart(client, old.id, { Name: 'no' });
  if (isNewContainer(journal)) await engine.rename(client, old.id, oldName(journal));
}

/** @throws PluginError when stopping the old one would already destroy it */
async function noteOld({ client }: SwapDeps, journal: Journal): Promise<void> {
  const old = await engine.inspect(client, journal.container);
  if (flag(old.host.AutoRemove) && old.state !== 'stopped') {
    throw new PluginError('unsupported', `${old.name} was started with --rm and would be gone when stopped: remove it, then create`);
  }
  journal.oldId = old.id;
  journal.oldRunning = old.state !== 'stopped';
  journal.oldRestart = old.host.RestartPolicy;
}

async function swap(deps: SwapDeps, { journal, restart }: Filled): Promise<void> {
  const { client, journals } = deps;
  if (journal.oldId !== '') await stopOld(deps, journal);
  await swapPlaces(journal.places, () => journals.write(journal)); // now that the container stands still
  const policy = isNewContainer(journal) ? restart : journal.oldRestart;
  const live = isNewContainer(journal) ? journal.newId : journal.oldId;
  if (isNewContainer(journal)) await engine.rename(client, live, journal.container);
  const name = text(fields(policy).Name);
  if (name !== '' && name !== 'no') await engine.setRestart(client, live, policy);
}

/** What keeps the new container from being started. */
async function conflictsOf({ client }: SwapDeps, { plan, inspect, decisions }: Filled): Promise<readonly Conflict[]> {
  if (plan.action === 'replace') return dependentConflicts(client, plan.container);
  return [...missingConflicts(missingMounts(decisions)), ...(await startConflicts(client, inspect, ''))];
}

/** Swaps the draft in. On any failure everything is as it was, and the error says why. The commit point is the journal's
 *  `done`, written after the new container started. */
export async function commitDraft(deps: CommitDeps, filled: Filled): Promise<Committed> {
  const { plan, journal, decisions } = filled;
  const { client, journals } = deps;
  const replace = plan.action === 'replace';
  if (replace) await noteOld(deps, journal);
  // Asked again, and only this: filling the draft may take hours, and another container may have been started on what is moved
  // next. Where things go was decided with the draft, and each place is looked at as it is in its turn of the swap. What is not
  // there yet, as a clone's copy, is nobody's.
  const replaced = journal.places.filter(({ had }) => had);
  refuseRunning(plan.container, replaced, await dockerUsers(client, plan.container));
  const conflicts = await conflictsOf(deps, filled);
  const start = replace ? journal.oldRunning : plan.description.state !== 'stopped' && conflicts.length === 0;
  const keeps = replace || journal.places.some(({ had }) => had);
  journal.undoUntil = keeps ? (plan.undoUntil ?? 0) : 0;
  journal.phase = 'swap';
  await journals.write(journal);
  try {
    await swap(deps, filled);
    if (start) await engine.start(client, isNewContainer(journal) ? journal.newId : journal.oldId);
    await journals.write({ ...journal, phase: 'done' });
  } catch (error) {
    await revertSwap(deps, journal).catch((cause: unknown) => {
      const message = `Restoring ${journal.container} failed (${String(error)}) and so did going back; recover tries again`;
      throw new PluginError('failed', message, { cause });
    });
    throw error;
  }
  journal.phase = 'done';
  // Only now: a restore that fails must not cost the undo of the one before.
  await deps.swaps.supersede(journal).catch(() => undefined);
  const result = { conflicts, ...placementOf(plan, decisions) };
  if (journal.undoUntil > 0) return { ...result, undo: journal.id, undoBytes: await keptBytes(journal.places) };
  // What fails from here on is only litter: the container is restored, and recover ends the work by the journal.
  await finishSwap(deps, journal)
    .then(() => journals.remove(journal))
    .catch(() => undefined);
  return result;
}
