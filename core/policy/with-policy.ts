/** What holds for every target, whoever wrote it: one wrapper for each part of it, put together here and nowhere else. */
import type { PluginLog, Target } from '../contract/index.js';
import type { Bandwidth } from './bandwidth.js';
import { briefWaits } from './retry.js';
import { withBandwidth } from './with-bandwidth.js';
import { withConnections } from './with-connections.js';
import { withRetry } from './with-retry.js';
import { withStall } from './with-stall.js';

export interface Policy {
  /** As messages call the target. */
  readonly name: string;
  readonly bandwidth: Bandwidth;
  /** Puts and gets at a time, when it is fewer than the target takes. */
  readonly connections?: number;
  /** How long nothing may move. */
  readonly stallMs: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Waits between tries, in ms; as for brief calls when absent. */
  readonly waits?: readonly number[];
}

export interface PolicyTarget extends Target {
  /** The same, for a few bytes that must not wait until a long put gives its connection back: their put takes none. */
  readonly aside: Target;
}

/** The target under the policy. Disposing disposes the target. From the inside out:
 *  - stall: time is measured at the target itself, so that no wait of the wrappers around counts;
 *  - bandwidth: each try of a get takes its share anew;
 *  - retry: what stalled is tried again, too;
 *  - connections: whoever waits for one has not begun, and a get keeps its own while it is tried again. */
export function withPolicy(target: Target, { name, bandwidth, connections, stallMs, signal, log, waits }: Policy): PolicyTarget {
  const timed = withStall(target, { name, stallMs, log });
  const slowed = withBandwidth(timed, bandwidth);
  const aside = withRetry(slowed, { name, delays: waits ?? briefWaits, signal, log });
  return Object.assign(withConnections(aside, connections), { aside });
}
