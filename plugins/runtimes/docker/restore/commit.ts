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

/** Notes the old container in the journal. @throws PluginError unsupported: it was started with --rm, and a stop removes it */
async function noteOld({ client }: SwapDeps, journal: Journal): Promise<void> {
  const old = await engine.inspect(client, journal.container);
  if (flag(old.host.AutoRemove) && old.state !== 'stopped') {
    throw new PluginError('unsupported', `${old.name} was started with --rm, so stopping it removes it: remove it and restore with create`);
  }
  journal.oldId = old.id;
  journal.oldRunning = old.state !== 'stopped';
  journal.oldRestart = old.host.RestartPolicy;
}

async function swap(deps: SwapDeps, { journal, restart }: Filled): Promise<void> {
  const { client, journals } = deps;
  if (journal.oldId !== '') await stopOld(deps, journal);
  await swapPlaces(journal.places, () => journals.write(journal)); // the container is stopped
  const policy = isNewContainer(journal) ? restart : journal.oldRestart;
  const live = isNewContainer(journal) ? journal.newId : journal.oldId;
  if (isNewContainer(journal)) await engine.rename(client, live, journal.container);
  const name = text(fields(policy).Name);
  if (name !== '' && name !== 'no') await engine.setRestart(client, live, policy);
}

/** Reasons not to start the new container. */
async function conflictsOf({ client }: SwapDeps, { plan, inspect, decisions }: Filled): Promise<readonly Conflict[]> {
  if (plan.action === 'replace') return dependentConflicts(client, plan.container);
  return [...missingConflicts(missingMounts(decisions)), ...(await startConflicts(client, inspect, ''))];
}

/** Swaps the draft in. On a failure it reverts everything and throws the reason. Commit point: `done` in the journal, written
 *  after the new container started. */
export async function commitDraft(deps: CommitDeps, filled: Filled): Promise<Committed> {
  const { plan, journal, decisions } = filled;
  const { client, journals } = deps;
  const replace = plan.action === 'replace';
  if (replace) await noteOld(deps, journal);
  // Check the users again: filling the draft may take hours, and another container may have started on a folder to be moved.
  // Nothing else is checked again: the draft decided where things go, and the swap looks at each place when it moves it. A place
  // that does not exist yet, like a clone's copy, has no users.
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
      const message = `Restoring ${journal.container} failed (${String(error)}) and so did the rollback; recovery tries again`;
      throw new PluginError('failed', message, { cause });
    });
    throw error;
  }
  journal.phase = 'done';
  // Not earlier: a failed restore must leave the undo of the restore before.
  await deps.swaps.supersede(journal).catch(() => undefined);
  const result = { conflicts, ...placementOf(plan, decisions) };
  if (journal.undoUntil > 0) return { ...result, undo: journal.id, undoBytes: await keptBytes(journal.places) };
  // The container is restored; a failure from here on only leaves files behind, and recover removes them by the journal.
  await finishSwap(deps, journal)
    .then(() => journals.remove(journal))
    .catch(() => undefined);
  return result;
}
