/** Where a job's record lies, as an open target under the policy for all targets. */
import { PluginError, type Target } from '../contract/index.js';
import type { FoundTarget, Location, WorkerEnvironment } from '../jobs/job.js';
import type { PluginOpening, Plugins } from '../plugins/loaded.js';
import { Bandwidth, type PolicyTarget, withPolicy } from '../policy/index.js';
import { openRemote, type RemoteTarget } from './remote.js';

export interface LocationOpening extends PluginOpening {
  /** The record of the place's target, when it is remote. */
  readonly remote?: RemoteTarget;
  readonly bandwidth?: Bandwidth;
  /** Files at a time that are this run's part. */
  readonly connections?: number;
  /** Told what the first contact showed. */
  keepFound?(target: number, found: FoundTarget): void;
}

/** Opens the folder of a place. A local path is `/<share>/<folder>`.
 *  @throws PluginError unavailable (not mounted, does not answer), invalid, not_found (no such share or target), denied, untrusted */
export async function openLocation(
  plugins: Plugins,
  environment: WorkerEnvironment,
  place: Location,
  o: LocationOpening,
): Promise<PolicyTarget> {
  const { target, name } = place.target === 'remote' ? await openNamed(plugins, place, o) : await openShare(plugins, environment, place, o);
  const { bandwidth = new Bandwidth(), connections, signal, log } = o;
  return withPolicy(target, {
    name,
    bandwidth,
    stallMs: environment.stallMs,
    signal,
    log,
    ...(connections !== undefined && { connections }),
  });
}

interface Named {
  readonly target: Target;
  readonly name: string;
}

async function openNamed(plugins: Plugins, place: Location, o: LocationOpening): Promise<Named> {
  const { remote } = o;
  if (remote === undefined) throw new PluginError('not_found', `there is no target ${place.profile}; choose another`);
  const { target, found } = await openRemote(plugins, remote, place.path, o);
  if (found) o.keepFound?.(remote.id, found);
  return { target, name: remote.spec.name };
}

async function openShare(plugins: Plugins, environment: WorkerEnvironment, place: Location, o: PluginOpening): Promise<Named> {
  const [share = '', ...base] = place.path.split('/').filter((part) => part !== '');
  const root = Object.hasOwn(environment.shares, share) ? environment.shares[share] : undefined;
  if (root === undefined) {
    const known = Object.keys(environment.shares).join(', ') || 'none is configured';
    throw new PluginError('not_found', `there is no share ${share}; the shares are: ${known}`);
  }
  return { target: await plugins.openTarget('local', { share, root, base: base.join('/') }, o), name: `share ${share}` };
}
