/** Measurements, and the median and spread of several. */

import type { Resident } from './processes.js';

export const phases = ['full', 'unchanged', 'changed', 'restore'] as const;
export type Phase = (typeof phases)[number];

export interface Measurement {
  readonly contender: string;
  readonly phase: Phase;
  readonly round: number;
  /** Seconds from the command or the API request to its end. */
  readonly seconds: number;
  /** The same, plus the sync of the file system. After it, a power cut loses nothing. */
  readonly durable: number;
  /** Duration that the job reports; for the service only. */
  readonly own?: number;
  /** Bytes of new or replaced files at the destination. */
  readonly written: number;
  /** Processor seconds, of all its processes. */
  readonly processor: number;
  /** Peak memory, of all its processes. */
  readonly peak: number;
  readonly atPeak: readonly Resident[];
  /** Part of the processors, 0 to 1, that other processes used just before. */
  readonly foreign: number;
}

export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** @throws RangeError for an empty list */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  const [least, most] = [sorted[0], sorted.at(-1)];
  if (low === undefined || high === undefined || least === undefined || most === undefined) throw new RangeError('no values');
  return { median: (low + high) / 2, least, most };
}

export class Figures {
  readonly #all: Measurement[] = [];

  add(one: Measurement): void {
    this.#all.push(one);
  }

  of(contender: string, phase: Phase): readonly Measurement[] {
    return this.#all.filter((one) => one.contender === contender && one.phase === phase);
  }

  spread(contender: string, phase: Phase, key: 'seconds' | 'durable' | 'written' | 'processor'): Spread {
    return spreadOf(this.of(contender, phase).map((one) => one[key]));
  }

  /** How many times as fast as `other`, compared within each round: a slow phase of the machine slows both. */
  speedup(contender: string, other: string, phase: Phase, key: 'seconds' | 'durable'): Spread {
    const others = new Map(this.of(other, phase).map((one) => [one.round, one[key]]));
    return spreadOf(this.of(contender, phase).map((one) => (others.get(one.round) ?? Number.NaN) / one[key]));
  }

  /** The step of a contender, or of one phase, that took the most memory. @throws RangeError when there is none */
  largest(contender: string, phase?: Phase): Measurement {
    const own = this.#all.filter((one) => one.contender === contender && (phase === undefined || one.phase === phase));
    const [largest] = own.toSorted((a, b) => b.peak - a.peak);
    if (!largest) throw new RangeError('no values');
    return largest;
  }

  foreign(): Spread {
    return spreadOf(this.#all.map((one) => one.foreign));
  }
}
