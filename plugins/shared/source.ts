/** What a put reads from, and how it ends. */
import type { Readable } from 'node:stream';
import { PluginError } from '../../core/contract/index.js';

/** The source's bytes. What goes wrong in it is told apart from what goes wrong in writing; one that was destroyed has failed.
 *  @throws PluginError failed, or the source's own */
export async function* sourceChunks(source: Readable): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  for (;;) {
    const next: IteratorResult<unknown> = await chunks.next().catch((cause: unknown) => {
      if (cause instanceof PluginError) throw cause;
      throw new PluginError('failed', `what was to be stored could not be read to its end: ${String(cause)}`, { cause });
    });
    if (next.done) return;
    if (typeof next.value === 'string') yield Buffer.from(next.value);
    else if (next.value instanceof Uint8Array) yield next.value;
    else throw new PluginError('invalid', 'only bytes can be stored');
  }
}

/** Gathers chunks to about so many bytes: the next is asked for only when the last has been taken. */
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

/** Settles at once when aborted, even if the work never does: a source or a server may stall for ever. @throws PluginError aborted */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal, what: string): Promise<T> {
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(abortError(what));
  });
  signal.addEventListener('abort', abort, { once: true });
  work.catch(() => undefined); // told to nobody once aborted
  try {
    if (signal.aborted) abort();
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

export const abortError = (what: string): PluginError => new PluginError('aborted', `${what}: stopped`);
