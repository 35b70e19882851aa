import { Readable } from 'node:stream';
import { anySignal, type Entry, PluginError, type Stored, type Target } from '../../core/contract/index.js';

/** What fails, when and how. `call`: the nth call of the operation, from 1, at its beginning. `byte`: every put or get, at that byte.
 *  error and no_space: a PluginError. stall: nothing moves until the signal is aborted or the target is closed. short: without an error,
 *  a put stores and a get gives only the bytes before; a list, stat or space finds nothing; a remove removes nothing. */
export interface Fault {
  readonly op: 'put' | 'get' | 'stat' | 'list' | 'remove' | 'space';
  readonly at: { readonly call: number } | { readonly byte: number };
  readonly kind: 'error' | 'stall' | 'short' | 'no_space';
}

/** Wraps a target and injects the fault, for tests of code that uses targets. */
export function faultyTarget(target: Target, fault: Fault): Target {
  return new FaultyTarget(target, fault);
}

class FaultyTarget implements Target {
  readonly #closed = new AbortController();
  readonly #hit: (op: Fault['op']) => boolean;

  constructor(
    readonly target: Target,
    readonly fault: Fault,
  ) {
    this.#hit = counter(fault);
  }
  get supports(): Target['supports'] {
    return this.target.supports;
  }
  /** Counts a call that has no stream, and injects the fault. @returns true for `short`: the call must do nothing and report success */
  async #short(op: Fault['op']): Promise<boolean> {
    if (!this.#hit(op)) return false;
    if (this.fault.kind === 'stall') await aborted(this.#closed.signal);
    if (this.fault.kind === 'short') return true;
    throw faultError(this.fault);
  }
  /** The byte at which a stream fails; undefined for none. */
  #byte(op: Fault['op']): number | undefined {
    if ('byte' in this.fault.at) return this.fault.op === op ? this.fault.at.byte : undefined;
    return this.#hit(op) ? 0 : undefined;
  }
  #broken(source: Readable, byte: number, signal: AbortSignal): Readable {
    const fail = () => (this.fault.kind === 'stall' ? aborted(signal) : Promise.reject(faultError(this.fault)));
    return Readable.from(cut(source, byte, fail, this.fault.kind), { objectMode: false });
  }
  async put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored> {
    const byte = this.#byte('put');
    if (byte === undefined) return this.target.put(path, source, o);
    source.on('error', () => undefined);
    const signal = anySignal(o.signal, this.#closed.signal);
    try {
      return await this.target.put(path, this.#broken(source, byte, signal), { ...o, signal });
    } finally {
      source.destroy();
    }
  }
  async get(path: string, o: { signal: AbortSignal; offset?: number; length?: number }): Promise<Readable> {
    const byte = this.#byte('get');
    const stream = await this.target.get(path, o);
    if (byte === undefined) return stream;
    const broken = this.#broken(stream, byte, anySignal(o.signal, this.#closed.signal));
    broken.once('close', () => stream.destroy());
    return broken.on('error', () => undefined); // without a listener, an abort before the first read would end the process; the read reports it
  }
  async stat(path: string): Promise<Entry | undefined> {
    return (await this.#short('stat')) ? undefined : this.target.stat(path);
  }
  async *list(path: string, o: { unfinished?: boolean } = {}): AsyncGenerator<Entry> {
    if (!(await this.#short('list'))) yield* this.target.list(path, o);
  }
  async remove(path: string): Promise<void> {
    if (!(await this.#short('remove'))) await this.target.remove(path);
  }
  async space(): Promise<{ total: number; free: number } | undefined> {
    return (await this.#short('space')) ? undefined : this.target.space();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort();
    await this.target[Symbol.asyncDispose]();
  }
}

/** Whether this call fails. */
function counter({ op: failing, at }: Fault): (op: Fault['op']) => boolean {
  let calls = 0;
  return (op) => 'call' in at && op === failing && ++calls === at.call;
}

function faultError({ op, kind }: Fault): PluginError {
  if (kind === 'no_space') return new PluginError('no_space', `${op}: the target is full, as the test wants it`);
  return new PluginError('io', `${op}: failed, as the test wants it`); // not retryable: a retry would hide the fault
}

/** Never resolves; rejects when the signal is aborted. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(new PluginError('aborted', 'stopped'));
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
  });
}

/** Gives the source's first bytes and then the fault. A source that ends before stays as it is. */
async function* cut(source: Readable, byte: number, fault: () => Promise<never>, kind: Fault['kind']): AsyncGenerator<Uint8Array> {
  let given = 0;
  const chunks: AsyncIterable<unknown> = source;
  const end = async () => (kind === 'short' ? undefined : fault());
  if (byte === 0) return end();
  for await (const chunk of chunks) {
    const bytes = chunk instanceof Uint8Array ? chunk : Buffer.from(String(chunk));
    if (given + bytes.length >= byte) {
      yield bytes.subarray(0, byte - given);
      return end();
    }
    given += bytes.length;
    yield bytes;
  }
}
