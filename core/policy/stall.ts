import { PluginError } from '../contract/index.js';
import { PulledStream, type PulledStreamOptions } from './pulled-stream.js';

/** Checks in the time of the limit. So a stall is noticed at most a tenth of the limit too late. */
const looksPerLimit = 10;

export function stallError(what: string, ms: number): PluginError {
  return new PluginError(
    'stalled',
    `${what}: no byte moved for ${Math.round(ms / 1000)} s; check that the server runs and that the network works`,
    {
      retryable: true,
    },
  );
}

export interface WatchOptions {
  readonly stallMs: number;
  /** Called when the target has taken nothing for `stallMs`. */
  stalled(): void;
}

/** Passes a source to the target that stores it, and notices when the target takes no more bytes. A source that gives no bytes is no
 *  stall: tar reads the names of unchanged files for minutes and writes nothing. */
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
  /** Ends the checks. Call it when the put has succeeded or failed. */
  unwatch(): void {
    clearInterval(this.#timer);
  }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (error) this.unwatch(); // a source at its end is destroyed too, while the target still stores its last bytes
    done(error);
  }
}
