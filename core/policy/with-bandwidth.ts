import type { Readable } from 'node:stream';
import { anySignal, PluginError, type Stored, type Target } from '../contract/index.js';
import type { Bandwidth } from './bandwidth.js';
import { type Pull, PulledStream, pullOf } from './pulled-stream.js';
import { type GetOptions, type PutOptions, WrappedTarget } from './wrapped-target.js';

/** Limits all puts and gets of a target together to a bandwidth. */
export function withBandwidth(target: Target, bandwidth: Bandwidth): Target {
  return new SlowedTarget(target, bandwidth);
}

class SlowedTarget extends WrappedTarget {
  constructor(
    inner: Target,
    private readonly bandwidth: Bandwidth,
  ) {
    super(inner);
  }

  override async put(path: string, source: Readable, o: PutOptions): Promise<Stored> {
    const slowed = this.#slow(source, o.signal);
    try {
      return await this.inner.put(path, slowed, o);
    } catch (error) {
      slowed.destroy();
      source.destroy();
      throw error;
    }
  }
  override async get(path: string, o: GetOptions): Promise<Readable> {
    return this.#slow(await this.inner.get(path, o), o.signal, path);
  }

  /** @param what names the stream, which an abort then destroys; without it, the reader ends the stream */
  #slow(stream: Readable, outer: AbortSignal, what?: string): PulledStream {
    const closed = new AbortController(); // a closed stream stops waiting, so that it takes no bandwidth from the others
    const signal = anySignal(outer, closed.signal);
    const next = pullOf(stream);
    const pull: Pull = async () => {
      const bytes = await next();
      if (bytes !== undefined) await this.#take(bytes.length, signal);
      return bytes;
    };
    const close = () => {
      closed.abort();
      stream.destroy();
    };
    return new PulledStream({ pull, close, ...(what !== undefined && { abort: { signal: outer, what } }) });
  }
  #take(bytes: number, signal: AbortSignal): Promise<void> {
    return this.bandwidth.take(bytes, signal).catch((cause: unknown) => {
      throw new PluginError('aborted', 'stopped', { cause });
    });
  }
}
