import { Readable } from 'node:stream';
import { PluginError } from '../contract/index.js';

/** Gives the next bytes; undefined at the end. It is asked again only when it has answered. */
export type Pull = () => Promise<Uint8Array | undefined>;

export interface PulledStreamOptions {
  readonly pull: Pull;
  /** The stream is closed: gives back what it was made of. */
  close(): void;
  /** Its abort ends the stream with `aborted`, whether anybody reads or not. `what` names the stream in that message. */
  readonly abort?: { readonly signal: AbortSignal; readonly what: string };
}

/** The stream that a wrapper gives in the place of the one that it was given. The next wrapper takes the bytes by `pull`, past
 *  the stream (see pullOf): however many wrappers there are, only the stream of the outermost one buffers. */
export class PulledStream extends Readable {
  readonly #pull: Pull;
  #begun = false;

  constructor({ pull, close, abort }: PulledStreamOptions) {
    super({ highWaterMark: 1 << 20 });
    this.#pull = pull;
    this.on('error', () => undefined); // an abort before anybody reads must not end the process; reading reports it
    const stop = () => this.destroy(new PluginError('aborted', `${abort?.what}: stopped`));
    abort?.signal.addEventListener('abort', stop, { once: true });
    this.once('close', () => {
      abort?.signal.removeEventListener('abort', stop);
      close();
    });
    if (abort?.signal.aborted) stop();
  }

  /** Where its bytes come from, as long as nobody has read it as a stream. */
  get unread(): Pull | undefined {
    return this.#begun ? undefined : this.#pull;
  }

  override _read(): void {
    this.#begun = true;
    this.#pull().then(
      (bytes) => this.push(bytes ?? null),
      (error: unknown) => this.destroy(error instanceof Error ? error : new PluginError('failed', String(error))),
    );
  }
}

/** Takes the bytes of a stream one chunk at a time. */
export function pullOf(stream: Readable): Pull {
  const unread = stream instanceof PulledStream ? stream.unread : undefined;
  if (unread !== undefined) return unread;
  stream.on('error', () => undefined); // it may fail before it is asked; asking reports it
  const chunks: AsyncIterator<unknown> = stream[Symbol.asyncIterator]();
  return async () => {
    const { done, value } = await chunks.next();
    if (done) return undefined;
    return value instanceof Uint8Array ? value : Buffer.from(String(value));
  };
}
