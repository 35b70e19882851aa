/** LXC's part of a swap: its containers' states. */
import { join } from 'node:path';
import { present } from '../../../shared/presence.js';
import { clearPlace, type SwapEngine, swapBack } from '../../../shared/swap/index.js';
import { adoptEarlier } from './earlier.js';
import type { Journal, Own, SwapDeps } from './journal.js';
import { configPlace } from './layout.js';

/** Reverts a swap and brings the container into its former state. Idempotent. Reverts a replaced configuration first: LXC's tools
 *  load it on each call, and the restored one may not load. */
export async function revertSwap({ tools, journals }: SwapDeps, journal: Journal): Promise<void> {
  const { action, container, places } = journal;
  const save = () => journals.write(journal);
  const config = action === 'replace' ? configPlace(tools, journal) : undefined;
  if (config) await swapBack(config, save);
  if (await present(join(tools.folder(container), 'config'))) {
    // a container whose configuration does not load never ran
    if ((await tools.loadProblem(container)) === undefined) await tools.stop(container);
  }
  for (const place of places.toReversed()) await swapBack(place, save);
  journal.phase = 'draft';
  await journals.write(journal);
  if (action === 'replace') await tools.reach(container, journal.former);
}

/** Removes everything that a draft made. */
export async function discardDraft({ journals }: SwapDeps, journal: Journal): Promise<void> {
  for (const place of journal.places.toReversed()) await clearPlace(place, false, () => journals.write(journal));
}

/** After the commit point: removes the replaced files. */
export async function finishSwap({ journals }: SwapDeps, journal: Journal): Promise<void> {
  for (const place of journal.places) await clearPlace(place, true, () => journals.write(journal));
}

/** LXC's part of the life of a swap. */
export function swapEngine(deps: SwapDeps): SwapEngine<Own> {
  return {
    revert: (journal) => revertSwap(deps, journal),
    discard: (journal) => discardDraft(deps, journal),
    finish: (journal) => finishSwap(deps, journal),
    checkKept: async () => undefined, // an undo needs only the places, which Swaps checks
    adoptEarlier: () => adoptEarlier(deps),
    ownFolder: ({ action, container }) => (action === 'create' ? deps.tools.folder(container) : undefined),
    users: (container) => deps.users(container),
  };
}
