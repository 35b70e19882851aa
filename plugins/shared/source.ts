/** Reading the source of a put, and stopping it. */
import type { Readable } from 'node:stream';
import { PluginError } from '../../core/contract/index.js';

/** The source's bytes. A failure of the source becomes a PluginError, so that it differs from a failure of the writer. A destroyed
 *  source counts as failed. @throws PluginError failed, invalid, or the source's own */
export async function* sourceChunks(source: Readable): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  for (;;) {
    const next: IteratorResult<unknown> = await chunks.next().catch((cause: unknown) => {
      if (cause instanceof PluginError) throw cause;
      throw new PluginError('failed', `the source could not be read to its end: ${String(cause)}`, { cause });
    });
    if (next.done) return;
    if (typeof next.value === 'string') yield Buffer.from(next.value);
    else if (next.value instanceof Uint8Array) yield next.value;
    else throw new PluginError('invalid', 'only bytes can be stored');
  }
}

/** Gathers chunks to about `size` bytes. Back-pressure: reads on only after the consumer has taken the last batch. */
export async function* gatherChunks(source: Readable, size: number): AsyncGenerator<Uint8Array[]> {
  let chunks: Uint8Array[] = [];
  let gathered = 0;
  for await (const chunk of sourceChunks(source)) {
    if (chunk.length === 0) continue;
    chunks.push(chunk);
    gathered += chunk.length;
    if (gathered < size) continue;
    yield chunks;
    chunks = [];
    gathered = 0;
  }
  if (gathered > 0) yield chunks;
}

/** Settles with the work, or at once on abort: a source or server may stall for ever. @throws PluginError aborted */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal, what: string): Promise<T> {
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(abortError(what));
  });
  signal.addEventListener('abort', abort, { once: true });
  work.catch(() => undefined); // after an abort nobody awaits the work
  try {
    if (signal.aborted) abort();
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

export const abortError = (what: string): PluginError => new PluginError('aborted', `${what}: stopped`);
