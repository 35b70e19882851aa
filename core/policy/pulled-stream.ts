import { finished, Readable } from 'node:stream';
import { PluginError } from '../contract/index.js';

/** Gives the next bytes; undefined at the end. Callers await each answer before the next call. */
export type Pull = () => Promise<Uint8Array | undefined>;

export interface PulledStreamOptions {
  readonly pull: Pull;
  /** Called when the stream is closed, to release what it reads from. */
  close(): void;
  /** An abort destroys the stream with `aborted`, even when nobody reads. `what` names the stream in that message. */
  readonly abort?: { readonly signal: AbortSignal; readonly what: string };
}

/** The stream that a wrapper returns around another stream. An outer wrapper takes its bytes by `pull` instead of reading it (see
 *  pullOf), so that only the outermost stream buffers. */
export class PulledStream extends Readable {
  readonly #pull: Pull;
  #begun = false;

  constructor({ pull, close, abort }: PulledStreamOptions) {
    super({ highWaterMark: 1 << 20 });
    this.#pull = pull;
    this.on('error', () => undefined); // without a listener, an abort before the first read would end the process; the read reports it
    const stop = () => this.destroy(new PluginError('aborted', `${abort?.what}: stopped`));
    abort?.signal.addEventListener('abort', stop, { once: true });
    this.once('close', () => {
      abort?.signal.removeEventListener('abort', stop);
      close();
    });
    if (abort?.signal.aborted) stop();
  }

  /** Its `pull`, until somebody reads it as a stream. */
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

/** Gives each chunk as it was written. The stream's own iterator would copy all that is buffered into one. */
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
