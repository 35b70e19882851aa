/** The worker's side of a lease: no container is paused before the main thread has noted it durably. */
import type { Lease, WorkerMessage } from '../job.js';

/** Long enough for a busy main thread to answer, short enough that a dead worker's container waits no minute. */
const leaseMs = 30_000;
const renewEvery = 10_000;

export interface LeaseClient {
  post(message: WorkerMessage): void;
  /** Resolves at the `lease-kept` of that lease. Rejects when the run is stopped. */
  awaitKept(lease: Lease): Promise<void>;
}

export interface HeldLease extends AsyncDisposable {
  /** Whether the container may have been resumed by the main thread meanwhile. */
  isExpired(): boolean;
  /** Tells that the container goes on. Without it the main thread resumes it when the run has ended. */
  release(): void;
}

/** Takes the lease and keeps renewing it until it is disposed of, which does not release it: the pause may not have ended. */
export async function holdLease(client: LeaseClient, runtime: string, container: string): Promise<HeldLease> {
  let until = 0;
  let lost = false;
  const take = async () => {
    const next = Date.now() + leaseMs;
    const lease = { runtime, container, until: next };
    const kept = client.awaitKept(lease);
    client.post({ type: 'lease', ...lease });
    await kept;
    if (until !== 0 && Date.now() > until) lost = true;
    until = next;
  };
  await take();
  const renewal = setInterval(() => void take().catch(() => undefined), renewEvery);
  return {
    isExpired: () => lost || Date.now() > until,
    release: () => client.post({ type: 'release', runtime, container }),
    [Symbol.asyncDispose]: async () => clearInterval(renewal),
  };
}
