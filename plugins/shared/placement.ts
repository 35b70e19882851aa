/** Decisions that both runtimes share about where a restored container's data goes. */
import type { PlannedPlace, RestorePlan } from '../../core/contract/index.js';
import type { PlaceUser } from './swap/index.js';

/** Whether the plan makes another container than the one backed up; then it shares no volume with that one. */
export const isClone = ({ container, description }: RestorePlan): boolean => container !== description.name;

/** Whether only volumes are restored and the container itself stays. */
export const isPartial = (plan: RestorePlan): boolean => plan.action === 'replace' && !plan.sources.some(({ name }) => name === 'rootfs');

/** The name, or the first free one of `<name>-2`, `<name>-3`, … */
export async function firstFree(base: string, taken: (name: string) => Promise<boolean>): Promise<string> {
  let name = base;
  for (let n = 2; await taken(name); n += 1) name = `${base}-${n}`;
  return name;
}

/** A source, where it goes, and all containers that mount it. */
export interface DecidedPlace extends Omit<PlannedPlace, 'with'> {
  readonly users: readonly PlaceUser[];
}

/** The places as plan and result list them, the root first. */
export function placesOf(plan: RestorePlan, decided: readonly DecidedPlace[]): PlannedPlace[] {
  const action = plan.sources.some(({ name }) => name === 'rootfs') ? 'restore' : 'keep';
  const root: PlannedPlace = { source: 'rootfs', action, before: plan.description.name, after: plan.container };
  const volumes = decided.map(({ users, ...place }): PlannedPlace => {
    const others = [...new Set(users.map(({ container }) => container))];
    return { ...place, ...(others.length > 0 && { with: others }) };
  });
  return [root, ...volumes];
}
