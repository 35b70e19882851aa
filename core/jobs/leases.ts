/** Containers that may be frozen: known durably before the pause, resumed at expiry, at the worker's end and at start-up. */
import { PluginError } from '../contract/errors.js';
import type { PluginLog } from '../contract/plugin.js';
import type { Lease, LeaseRecords } from './job.js';

const longestTimer = 2 ** 31 - 1;
const retryAfter = 10_000;

export interface Leases {
  /** Resolves once the lease is durable; the container may be paused from then on. */
  keep(lease: Lease): Promise<void>;
  /** The worker has resumed the container itself. */
  release(runtime: string, container: string): Promise<void>;
  /** Resumes now, and again until it works; settles after the first try. Nothing kept is fine. */
  resume(runtime: string, container: string): Promise<void>;
  /** At start-up: whatever was frozen when the service died. */
  resumeAll(): Promise<void>;
  close(): void;
}

export interface LeaseDeps {
  readonly records: LeaseRecords;
  resume(runtime: string, container: string): Promise<void>;
  clock(): number;
  readonly log: PluginLog;
}

export function createLeases({ records, resume, clock, log }: LeaseDeps): Leases {
  const kept = new Map<string, Lease>();
  const timers = new Map<string, NodeJS.Timeout>();
  const turns = new Map<string, Promise<void>>();
  const keyOf = (runtime: string, container: string) => `${runtime}/${container}`;

  /** One thing at a time per container: a release must not overtake the lease that it ends. */
  const inTurn = (key: string, action: () => Promise<void>): Promise<void> => {
    const turn = (turns.get(key) ?? Promise.resolve()).then(action);
    const settled = turn.catch(() => undefined).then(() => void (turns.get(key) === settled && turns.delete(key)));
    turns.set(key, settled);
    return turn;
  };
  const arm = (key: string, { runtime, container }: Lease, delay: number) => {
    clearTimeout(timers.get(key));
    const fire = () => void resumeNow(runtime, container);
    timers.set(key, setTimeout(fire, Math.min(Math.max(delay, 0), longestTimer)));
  };
  const drop = async (key: string, runtime: string, container: string) => {
    clearTimeout(timers.get(key));
    timers.delete(key);
    await records.delete(runtime, container);
    kept.delete(key);
  };
  const resumeNow = (runtime: string, container: string) =>
    inTurn(keyOf(runtime, container), async () => {
      const key = keyOf(runtime, container);
      const lease = kept.get(key);
      if (!lease) return;
      try {
        await resume(runtime, container).catch(gone);
        await drop(key, runtime, container);
      } catch (error) {
        log('error', `${container} could not be resumed; trying again in ${retryAfter / 1000} s`, {
          runtime,
          container,
          error: `${error}`,
        });
        arm(key, lease, retryAfter);
      }
    });
  const keep = (lease: Lease) => {
    const key = keyOf(lease.runtime, lease.container);
    return inTurn(key, async () => {
      await records.put(lease);
      kept.set(key, lease);
      arm(key, lease, lease.until - clock());
    });
  };
  const resumeAll = async () => {
    const all = await records.list();
    for (const lease of all) kept.set(keyOf(lease.runtime, lease.container), lease);
    await Promise.all(all.map(({ runtime, container }) => resumeNow(runtime, container)));
  };
  return {
    keep,
    release: (runtime, container) => inTurn(keyOf(runtime, container), () => drop(keyOf(runtime, container), runtime, container)),
    resume: resumeNow,
    resumeAll,
    close: () => {
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
    },
  };
}

/** A container that is no longer there cannot be frozen. */
function gone(error: unknown): void {
  if (!(error instanceof PluginError && error.code === 'not_found')) throw error;
}
