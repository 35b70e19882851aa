/** What restoring a container would run into. */
import type { Conflict, RestorePlan } from '../../../core/contract/index.js';
import { present } from '../../shared/places.js';
import { newConfig } from './layout.js';
import type { Decision } from './placement.js';
import type { Tools } from './tools.js';

/** Running containers that use what is replaced stand in the way; stopped ones are only named. */
export function userConflicts(decisions: readonly Decision[]): Conflict[] {
  const found: Conflict[] = [];
  for (const { action, after, users } of decisions) {
    if (action !== 'restore') continue;
    const names = new Map(users.map(({ container, running }) => [container, running]));
    for (const [name, running] of names) {
      const what = `${name} uses ${after} too`;
      if (running) found.push({ code: 'volume_in_use', what, fix: `stop ${name} first` });
      else found.push({ code: 'volume_shared', what, fix: `${name} will find the restored files; nothing needs to be done` });
    }
  }
  return found;
}

/** Folders that are to be mounted as they are, and are not there. */
export function missingConflicts(decisions: readonly Decision[]): Conflict[] {
  return decisions
    .filter(({ missing }) => missing)
    .map(({ volume, after }) => ({
      code: 'folder_missing',
      what: `${after}, mounted at ${volume.mountpoint}, is not there and is not restored`,
      fix: `bring it back, or give another with remap.volumes for ${volume.name}; then start the container`,
    }));
}

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
