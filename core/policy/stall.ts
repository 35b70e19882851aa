import { PluginError } from '../contract/index.js';
import { PulledStream, type PulledStreamOptions } from './pulled-stream.js';

/** Looks per limit: a stall is noticed a tenth of the limit late at most. */
const looksPerLimit = 10;

export function stallError(what: string, ms: number): PluginError {
  return new PluginError('stalled', `${what}: nothing moved for ${Math.round(ms / 1000)} s; look after the server and the network`, {
    retryable: true,
  });
}

export interface WatchOptions {
  readonly stallMs: number;
  /** Called when the target has taken nothing for `stallMs`. */
  stalled(): void;
}

/** Sits between a source and the target that stores it, and notices when the target takes no more. A source that gives nothing is
 *  no stall: tar may search unchanged files for long. */
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
    if (size !== 0) this.#moved = performance.now(); // read(0) only fills the buffer
    return super.read(size);
  }
  /** Call when the put has ended, good or bad. */
  unwatch(): void {
    clearInterval(this.#timer);
  }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (error) this.unwatch(); // a source at its end is destroyed too, while the target still finishes
    done(error);
  }
}
