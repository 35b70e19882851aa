/** What a run's order says of its remote target. */
import { PluginError } from '../../contract/index.js';
import { requireSecrets } from '../../targets/remote.js';
import type { JobServiceDeps } from '../deps.js';
import { orderPurpose, type Place, type RemoteOrder } from '../job.js';
import type { BandwidthShares } from '../schedule/bandwidth-shares.js';

export class RemoteOrders {
  constructor(
    private readonly deps: Pick<JobServiceDeps, 'targets' | 'concurrent'>,
    private readonly bandwidths: BandwidthShares,
  ) {}

  /** How many runs may use the target at a time: none has less than one connection. Undefined for any number. */
  async connections({ target, profile }: Place): Promise<number | undefined> {
    return target === 'remote' && profile !== undefined ? (await this.deps.targets.get(profile))?.spec.connection_limit : undefined;
  }

  /** @throws PluginError not_found, secrets_lost */
  async of({ target, profile }: Place): Promise<{ remote?: RemoteOrder }> {
    if (target !== 'remote' || profile === undefined) return {};
    const record = await this.deps.targets.get(profile);
    if (record === undefined) throw new PluginError('not_found', `there is no target ${profile}; choose another`);
    requireSecrets(record);
    const sealed = this.deps.targets.seal(JSON.stringify(record), orderPurpose(profile));
    const bandwidth = await this.bandwidths.part(profile);
    const limit = record.spec.connection_limit;
    // So many runs may use it at a time, each with its part: together they stay within the limit.
    const runs = Math.min(limit ?? 1, Math.max(1, await this.deps.concurrent()));
    return {
      remote: { id: profile, sealed, bandwidth, ...(limit !== undefined && { connections: Math.max(1, Math.floor(limit / runs)) }) },
    };
  }
}
