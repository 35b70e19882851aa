import { PluginError } from '../contract/index.js';
import { PulledStream, type PulledStreamOptions } from './pulled-stream.js';

/** How exactly the limit is kept, as a part of it. */
const looksPerLimit = 10;

export function stallError(what: string, ms: number): PluginError {
  return new PluginError('stalled', `${what}: nothing moved for ${Math.round(ms / 1000)} s; look after the server and the network`, {
    retryable: true,
  });
}

export interface WatchOptions {
  readonly stallMs: number;
  /** Nothing was taken for so long. */
  stalled(): void;
}

/** Between a source and a target that puts it away: sees when the target takes no more. A source that gives nothing is no
 *  stall: tar may look for long at what has not changed. */
export class WatchedSource extends PulledStream {
  #moved = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(
    options: PulledStreamOptions,
    private readonly o: WatchOptions,
  ) {
    super(options);
    this.#timer = setInterval(() => this.#look(), Math.max(10, o.stallMs / looksPerLimit));
  }

  #look(): void {
    const targetWaits = this.readableLength === 0 && !this.readableEnded;
    if (targetWaits) this.#moved = performance.now();
    else if (performance.now() - this.#moved >= this.o.stallMs) this.o.stalled();
  }
  override read(size?: number): unknown {
    if (size !== 0) this.#moved = performance.now(); // read(0) takes nothing, it only has the buffer filled
    return super.read(size);
  }
  /** The put is over, one way or the other. */
  unwatch(): void {
    clearInterval(this.#timer);
  }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (error) this.unwatch(); // a source that is at its end is destroyed too, while the target still has to finish
    done(error);
  }
}
