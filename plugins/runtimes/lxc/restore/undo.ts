/** What only LXC can do about a swap: its containers' states. */
import { join } from 'node:path';
import { present } from '../../../shared/places.js';
import { clearPlace, type SwapEngine, swapBack } from '../../../shared/swap/index.js';
import { adoptEarlier } from './earlier.js';
import type { Journal, Own, SwapDeps } from './journal.js';
import { configPlace } from './layout.js';

/** Takes everything of a swap back and brings the container into its former state. Safe to call again. The configuration of one
 *  that was replaced comes back first: LXC's tools load it for each call, and that of the restored one may not be loadable. */
export async function revertSwap({ tools, journals }: SwapDeps, journal: Journal): Promise<void> {
  const { action, container, places } = journal;
  const save = () => journals.write(journal);
  const config = action === 'replace' ? configPlace(tools, journal) : undefined;
  if (config) await swapBack(config, save);
  if (await present(join(tools.folder(container), 'config'))) {
    // what cannot be loaded has never been started
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

/** Past the commit point: removes what was replaced. */
export async function finishSwap({ journals }: SwapDeps, journal: Journal): Promise<void> {
  for (const place of journal.places) await clearPlace(place, true, () => journals.write(journal));
}

/** LXC's part of the life of a swap. */
export function swapEngine(deps: SwapDeps): SwapEngine<Own> {
  return {
    revert: (journal) => revertSwap(deps, journal),
    discard: (journal) => discardDraft(deps, journal),
    finish: (journal) => finishSwap(deps, journal),
    checkKept: async () => undefined, // all that it needs are the places
    adoptEarlier: () => adoptEarlier(deps),
    ownFolder: ({ action, container }) => (action === 'create' ? deps.tools.folder(container) : undefined),
    users: (container) => deps.users(container),
  };
}
