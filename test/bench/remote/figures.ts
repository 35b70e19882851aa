/** What the remote part measures, and what is promised of it. */
import { type Spread, spreadOf } from '../figures.js';
import type { Direction } from './contenders.js';

export interface RemoteMeasurement {
  /** Of the case that it belongs to: what is compared has the same. */
  readonly target: string;
  /** Milliseconds of a round trip. */
  readonly delay: number;
  readonly direction: Direction;
  readonly contender: string;
  readonly round: number;
  readonly bytes: number;
  readonly seconds: number;
  /** The same, and until the server's file system was synced; of a read, the same. */
  readonly durable: number;
  /** Peak memory of all its processes. */
  readonly peak: number;
}

/** Ours against one peer, in one direction over one way. */
export interface RemoteRow {
  readonly target: string;
  readonly peer: string;
  readonly delay: number;
  readonly direction: Direction;
  /** What was moved. */
  readonly bytes: number;
  /** MB/s. */
  readonly ours: Spread;
  readonly theirs: Spread;
  /** How many times as fast ours is, compared within each round. */
  readonly ratio: Spread;
  readonly durable: Spread;
  /** Bytes. */
  readonly ourPeak: number;
  readonly theirPeak: number;
  /** The least ratio that is promised; undefined for information. */
  readonly wanted: number | undefined;
  readonly met: boolean;
}

type Case = Pick<RemoteMeasurement, 'target' | 'delay' | 'direction'>;

export class RemoteFigures {
  readonly #all: RemoteMeasurement[] = [];

  add(one: RemoteMeasurement): void {
    this.#all.push(one);
  }
  #of({ target, delay, direction }: Case, contender: string): readonly RemoteMeasurement[] {
    return this.#all.filter(
      (one) => one.target === target && one.delay === delay && one.direction === direction && one.contender === contender,
    );
  }
  /** @throws RangeError when one of them was not measured there */
  row(measured: Case, our: string, peer: string, wanted: number | undefined): RemoteRow {
    const [ours, theirs] = [this.#of(measured, our), this.#of(measured, peer)];
    const ratio = (key: 'seconds' | 'durable'): Spread =>
      spreadOf(ours.map((one) => (theirs.find(({ round }) => round === one.round)?.[key] ?? Number.NaN) / one[key]));
    const speed = (all: readonly RemoteMeasurement[]): Spread => spreadOf(all.map(({ bytes, seconds }) => bytes / 1e6 / seconds));
    const peak = (all: readonly RemoteMeasurement[]): number => Math.max(...all.map((one) => one.peak));
    const { target, delay, direction } = measured;
    const bare = ratio('seconds');
    return {
      ...{
        target,
        peer,
        delay,
        direction,
        bytes: ours[0]?.bytes ?? 0,
        ours: speed(ours),
        theirs: speed(theirs),
        ratio: bare,
        durable: ratio('durable'),
      },
      ...{ ourPeak: peak(ours), theirPeak: peak(theirs), wanted, met: wanted === undefined || bare.median >= wanted },
    };
  }
}
