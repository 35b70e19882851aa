/** The worker's side of a lease: it pauses a container only after the main thread has stored the lease durably. */
import type { Lease, WorkerMessage } from '../job.js';

/** Long enough for a busy main thread to answer, short enough that a container is frozen less than a minute after a worker dies. */
const leaseMs = 30_000;
const renewEvery = 10_000;

export interface LeaseClient {
  post(message: WorkerMessage): void;
  /** Resolves when `lease-kept` names this lease. Rejects when the run is stopped. */
  awaitKept(lease: Lease): Promise<void>;
}

export interface HeldLease extends AsyncDisposable {
  /** Whether the main thread may have resumed the container. */
  isExpired(): boolean;
  /** Reports that the container was resumed. Otherwise the main thread resumes it at the end of the run. */
  release(): void;
}

/** Takes the lease and renews it until it is disposed. Disposing does not release it: the container may still be frozen. */
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
