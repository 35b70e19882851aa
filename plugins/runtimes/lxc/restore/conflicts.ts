/** What restoring a container would run into. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Conflict, RestorePlan } from '../../../../core/contract/index.js';
import { isClone } from '../../../shared/placement.js';
import { present } from '../../../shared/places.js';
import type { Tools } from '../tools.js';
import { newConfig } from './layout.js';
import type { Decision } from './placement.js';

/** A configuration that LXC cannot load would leave a container that no tool can stop or start. */
export async function configConflicts(tools: Tools, plan: RestorePlan, decisions: readonly Decision[]): Promise<Conflict[]> {
  const text = newConfig(plan, `${tools.folder(plan.container)}/rootfs`, decisions);
  const problem = await tools.textProblem(text);
  if (problem === undefined) return [];
  const fix = 'bring the file that it names to this appliance, or restore a run that was made without it';
  return [{ code: 'config_unloadable', what: `LXC does not load the configuration: ${problem}`, fix }];
}

/** Whether a new container cannot have its folder. What is left of a container that lost its configuration is that one's, which
 *  comes back under the name that it had. */
export async function isNameTaken(tools: Tools, plan: RestorePlan): Promise<boolean> {
  const folder = tools.folder(plan.container);
  if (plan.action === 'replace' || !(await present(folder))) return false;
  return isClone(plan) || (await present(join(folder, 'config'))) || !(await stat(folder)).isDirectory();
}

export async function nameConflicts(tools: Tools, plan: RestorePlan): Promise<Conflict[]> {
  if (!(await isNameTaken(tools, plan))) return [];
  return [{ code: 'name_taken', fix: 'choose another name', what: plan.container }];
}
