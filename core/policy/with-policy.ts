/** The policy of every target: composes its wrappers, here and nowhere else. */
import type { PluginLog, Target } from '../contract/index.js';
import type { Bandwidth } from './bandwidth.js';
import { briefWaits } from './retry.js';
import { withBandwidth } from './with-bandwidth.js';
import { withConnections } from './with-connections.js';
import { withRetry } from './with-retry.js';
import { withStall } from './with-stall.js';

export interface Policy {
  /** Name of the target in messages. */
  readonly name: string;
  readonly bandwidth: Bandwidth;
  /** Most puts and gets at a time; the target's own limit counts when it is lower. */
  readonly connections?: number;
  /** A call that moves no byte for so many ms has stalled. */
  readonly stallMs: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Waits between tries, in ms; `briefWaits` when absent. */
  readonly waits?: readonly number[];
}

export interface PolicyTarget extends Target {
  /** The same target without the limit of connections, for a few bytes that must not wait for a long put. */
  readonly aside: Target;
}

/** Wraps the target in the policy. Disposing disposes the target. From the inside out:
 *  - stall: innermost, so that waits of the other wrappers do not count;
 *  - bandwidth: each try of a get takes its share anew;
 *  - retry: a stalled call is retried, too;
 *  - connections: outermost, so that a waiting call has not begun, and a get keeps its connection over retries. */
export function withPolicy(target: Target, { name, bandwidth, connections, stallMs, signal, log, waits }: Policy): PolicyTarget {
  const timed = withStall(target, { name, stallMs, log });
  const slowed = withBandwidth(timed, bandwidth);
  const aside = withRetry(slowed, { name, delays: waits ?? briefWaits, signal, log });
  return Object.assign(withConnections(aside, connections), { aside });
}
