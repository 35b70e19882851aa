import { finished, Readable } from 'node:stream';
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

/** Takes the bytes of a stream chunk by chunk. */
export function pullOf(stream: Readable): Pull {
  const unread = stream instanceof PulledStream ? stream.unread : undefined;
  return unread ?? chunksOf(stream);
}

interface Asked {
  resolve(bytes: Uint8Array | undefined): void;
  reject(error: Error): void;
}

/** Each chunk as it was written: the stream's own iterator would copy all that is buffered into one. */
function chunksOf(stream: Readable): Pull {
  let asked: Asked | undefined;
  let over: { readonly error: Error | null | undefined } | undefined;
  const answer = () => {
    if (over?.error) asked?.reject(over.error);
    else if (over) asked?.resolve(undefined);
  };
  stream.pause();
  stream.on('data', (chunk: unknown) => {
    stream.pause();
    asked?.resolve(chunk instanceof Uint8Array ? chunk : Buffer.from(String(chunk)));
  });
  finished(stream, { writable: false }, (error) => {
    over = { error };
    answer();
  });
  return () =>
    new Promise((resolve, reject) => {
      asked = { resolve, reject };
      if (over) answer();
      else stream.resume();
    });
}
