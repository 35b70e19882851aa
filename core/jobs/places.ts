/** Where a job's record lies, as an open target. */
import { PluginError, type Target } from '../contract/index.js';
import type { PluginOpening, Plugins } from '../plugins/loaded.js';
import type { Place, WorkerEnvironment } from './job.js';

/** Opens the folder of a place. A local path is `/<share>/<folder>`.
 *  @throws PluginError unavailable (not mounted, or no plugin for the target), invalid, not_found (no such share) */
export async function openPlace(plugins: Plugins, environment: WorkerEnvironment, place: Place, o: PluginOpening): Promise<Target> {
  if (place.target === 'remote') {
    throw new PluginError(
      'unavailable',
      `target ${place.profile} cannot be used: no plugin for it is installed; install one or back up locally`,
    );
  }
  const [share = '', ...base] = place.path.split('/').filter((part) => part !== '');
  const root = Object.hasOwn(environment.shares, share) ? environment.shares[share] : undefined;
  if (root === undefined) {
    const known = Object.keys(environment.shares).join(', ') || 'none is configured';
    throw new PluginError('not_found', `there is no share ${share}; the shares are: ${known}`);
  }
  return plugins.openTarget('local', { share, root, base: base.join('/') }, o);
}
