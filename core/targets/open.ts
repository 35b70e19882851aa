/** Opens a job's location as a target under the policy. */
import { PluginError } from '../contract/index.js';
import type { FoundTarget, Location, WorkerEnvironment } from '../jobs/job.js';
import type { Plugins } from '../plugins/loaded.js';
import type { PolicyTarget } from '../policy/index.js';
import { openRemote, type RemoteTarget } from './remote.js';
import { openUnderPolicy, type PolicyOpening } from './under-policy.js';

/** `connections`: this run's share of the target's files at a time. */
export interface LocationOpening extends Omit<PolicyOpening, 'stallMs' | 'waits'> {
  /** The location's target, when it is remote. */
  readonly remote?: RemoteTarget;
  /** Called with what the first contact found, so that the caller stores it. */
  keepFound?(target: number, found: FoundTarget): void;
}

/** Opens the folder of a location. A local path is `/<share>/<folder>`.
 *  @throws PluginError unavailable (not mounted, does not answer), invalid, not_found (no such share or target), denied, untrusted */
export function openLocation(
  plugins: Plugins,
  environment: WorkerEnvironment,
  location: Location,
  opening: LocationOpening,
): Promise<PolicyTarget> {
  const o = { ...opening, stallMs: environment.stallMs };
  return location.target === 'remote' ? openNamed(plugins, location, o) : openShare(plugins, environment.shares, location, o);
}

async function openNamed(plugins: Plugins, location: Location, o: LocationOpening & PolicyOpening): Promise<PolicyTarget> {
  const { remote } = o;
  if (remote === undefined) throw new PluginError('not_found', `there is no target ${location.profile}; choose another`);
  const { target, found } = await openRemote(plugins, remote, location.path, o);
  if (found) o.keepFound?.(remote.id, found);
  return target;
}

async function openShare(
  plugins: Plugins,
  shares: WorkerEnvironment['shares'],
  location: Location,
  o: PolicyOpening,
): Promise<PolicyTarget> {
  const [share = '', ...base] = location.path.split('/').filter((part) => part !== '');
  const root = Object.hasOwn(shares, share) ? shares[share] : undefined;
  if (root === undefined) {
    const known = Object.keys(shares).join(', ') || 'none is configured';
    throw new PluginError('not_found', `there is no share ${share}; the shares are: ${known}`);
  }
  return openUnderPolicy(plugins, { id: 'local', options: { share, root, base: base.join('/') }, name: `share ${share}` }, o);
}
