/** What restoring a container would run into. */
import type { Conflict, RestorePlan } from '../../../core/contract/index.js';
import type { MissingMount } from '../../shared/conflicts.js';
import { present } from '../../shared/places.js';
import { newConfig } from './layout.js';
import type { Decision } from './placement.js';
import type { Tools } from './tools.js';

/** The mounts that would have nothing to show. */
export const missingMounts = (decisions: readonly Decision[]): MissingMount[] =>
  decisions.filter(({ missing }) => missing).map(({ volume, after }) => ({ after, mountpoint: volume.mountpoint, source: volume.name }));

/** A configuration that LXC cannot load would leave a container that no tool can stop or start. */
export async function configConflicts(tools: Tools, plan: RestorePlan, decisions: readonly Decision[]): Promise<Conflict[]> {
  const text = newConfig(plan, `${tools.folder(plan.container)}/rootfs`, decisions);
  const problem = await tools.textProblem(text);
  if (problem === undefined) return [];
  const fix = 'bring the file that it names to this appliance, or restore a run that was made without it';
  return [{ code: 'config_unloadable', what: `LXC does not load the configuration: ${problem}`, fix }];
}

export async function nameConflicts(tools: Tools, { action, container }: RestorePlan): Promise<Conflict[]> {
  if (action === 'replace' || !(await present(tools.folder(container)))) return [];
  return [{ code: 'name_taken', fix: 'choose another name', what: container }];
}
