/** Conflicts of restoring a container. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Conflict, RestorePlan } from '../../../../core/contract/index.js';
import { isClone } from '../../../shared/placement.js';
import { present } from '../../../shared/presence.js';
import type { Tools } from '../tools.js';
import { newConfig } from './layout.js';
import type { Decision } from './placement.js';

/** Refuses a configuration that LXC cannot load: no tool could stop or start such a container. */
export async function configConflicts(tools: Tools, plan: RestorePlan, decisions: readonly Decision[]): Promise<Conflict[]> {
  const text = newConfig(plan, `${tools.folder(plan.container)}/rootfs`, decisions);
  const problem = await tools.textProblem(text);
  if (problem === undefined) return [];
  const fix = 'copy the file that the line names to this appliance, or restore a run without that line';
  return [{ code: 'config_unloadable', what: `LXC does not load the configuration: ${problem}`, fix }];
}

/** Whether the folder of a new container is taken. A folder without a configuration is left of a container under that name; the
 *  container may come back into it, but no clone. */
export async function isNameTaken(tools: Tools, plan: RestorePlan): Promise<boolean> {
  const folder = tools.folder(plan.container);
  if (plan.action === 'replace' || !(await present(folder))) return false;
  return isClone(plan) || (await present(join(folder, 'config'))) || !(await stat(folder)).isDirectory();
}

export async function nameConflicts(tools: Tools, plan: RestorePlan): Promise<Conflict[]> {
  if (!(await isNameTaken(tools, plan))) return [];
  return [{ code: 'name_taken', fix: 'choose another name', what: plan.container }];
}
