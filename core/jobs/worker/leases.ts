/** Leases of containers that may be frozen: stored durably before a pause; the container is resumed at expiry, at the worker's end and
 *  at start-up. */
import { PluginError } from '../../contract/errors.js';
import type { PluginLog } from '../../contract/plugin.js';
import { KeyedMutex } from '../../primitives/mutex.js';
import type { Lease, LeaseRows } from '../job.js';

const longestTimer = 2 ** 31 - 1;
const retryAfter = 10_000;

export interface Leases {
  /** Resolves after fsync; only then may the container be paused. */
  keep(lease: Lease): Promise<void>;
  /** Call when the worker has resumed the container itself. */
  release(runtime: string, container: string): Promise<void>;
  /** Resumes now, and repeats until it works. Settles after the first try. Does nothing without a lease. */
  resume(runtime: string, container: string): Promise<void>;
  /** Resumes every leased container, at start-up. */
  resumeAll(): Promise<void>;
  close(): void;
}

export interface LeaseDeps {
  readonly rows: LeaseRows;
  resume(runtime: string, container: string): Promise<void>;
  clock(): number;
  readonly log: PluginLog;
}

export function createLeases(deps: LeaseDeps): Leases {
  return new KeptLeases(deps);
}

const keyOf = ({ runtime, container }: Pick<Lease, 'runtime' | 'container'>) => `${runtime}/${container}`;

class KeptLeases implements Leases {
  readonly #kept = new Map<string, Lease>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  /** A release must not overtake the lease that it ends. The key is runtime and container. */
  readonly #mutex = new KeyedMutex<string>();
  constructor(private readonly deps: LeaseDeps) {}

  keep(lease: Lease): Promise<void> {
    return this.#mutex.run(keyOf(lease), async () => {
      await this.deps.rows.put(lease);
      this.#kept.set(keyOf(lease), lease);
      this.#arm(lease, lease.until - this.deps.clock());
    });
  }

  release(runtime: string, container: string): Promise<void> {
    const lease = { runtime, container };
    return this.#mutex.run(keyOf(lease), () => this.#drop(lease));
  }

  resume(runtime: string, container: string): Promise<void> {
    return this.#mutex.run(keyOf({ runtime, container }), async () => {
      const lease = this.#kept.get(keyOf({ runtime, container }));
      if (!lease) return;
      try {
        await this.deps.resume(runtime, container).catch(gone);
        await this.#drop(lease);
      } catch (error) {
        const detail = { runtime, container, error: `${error}` };
        this.deps.log('error', `${container} could not be resumed; the next try is in ${retryAfter / 1000} s`, detail);
        this.#arm(lease, retryAfter);
      }
    });
  }

  async resumeAll(): Promise<void> {
    const all = await this.deps.rows.list();
    for (const lease of all) this.#kept.set(keyOf(lease), lease);
    await Promise.all(all.map(({ runtime, container }) => this.resume(runtime, container)));
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  #arm(lease: Lease, delay: number): void {
    clearTimeout(this.#timers.get(keyOf(lease)));
    const fire = () => void this.resume(lease.runtime, lease.container);
    this.#timers.set(keyOf(lease), setTimeout(fire, Math.min(Math.max(delay, 0), longestTimer)));
  }

  async #drop(lease: Pick<Lease, 'runtime' | 'container'>): Promise<void> {
    clearTimeout(this.#timers.get(keyOf(lease)));
    this.#timers.delete(keyOf(lease));
    await this.deps.rows.delete(lease.runtime, lease.container);
    this.#kept.delete(keyOf(lease));
  }
}

/** A container that no longer exists cannot be frozen. */
function gone(error: unknown): void {
  if (!(error instanceof PluginError && error.code === 'not_found')) throw error;
}
