/** Builds the part of a task that is about its remote target. */
import { PluginError } from '../../contract/index.js';
import { requireSecrets } from '../../targets/remote.js';
import type { JobServiceDeps } from '../deps.js';
import { type Location, type RemoteTask, taskPurpose } from '../job.js';
import type { BandwidthShares } from '../schedule/bandwidth-shares.js';

export class RemoteTasks {
  constructor(
    private readonly deps: Pick<JobServiceDeps, 'targets' | 'concurrent'>,
    private readonly bandwidths: BandwidthShares,
  ) {}

  /** How many runs may use the target at a time, with at least one connection each; undefined for any number. */
  async connections({ target, profile }: Location): Promise<number | undefined> {
    return target === 'remote' && profile !== undefined ? (await this.deps.targets.get(profile))?.spec.connection_limit : undefined;
  }

  /** @throws PluginError not_found, secrets_lost */
  async of({ target, profile }: Location): Promise<{ remote?: RemoteTask }> {
    if (target !== 'remote' || profile === undefined) return {};
    const row = await this.deps.targets.get(profile);
    if (row === undefined) throw new PluginError('not_found', `there is no target ${profile}; choose another`);
    requireSecrets(row);
    const sealed = this.deps.targets.seal(JSON.stringify(row), taskPurpose(profile));
    const bandwidth = await this.bandwidths.part(profile);
    const limit = row.spec.connection_limit;
    // Each run gets an equal part, so that all runs together stay within the limit.
    const runs = Math.min(limit ?? 1, Math.max(1, await this.deps.concurrent()));
    return {
      remote: { id: profile, sealed, bandwidth, ...(limit !== undefined && { connections: Math.max(1, Math.floor(limit / runs)) }) },
    };
  }
}
