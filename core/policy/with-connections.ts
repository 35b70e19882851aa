import type { Readable } from 'node:stream';
import { PluginError, type Stored, type Target } from '../contract/index.js';
import { Semaphore } from '../primitives/semaphore.js';
import { type GetOptions, type PutOptions, WrappedTarget } from './wrapped-target.js';

/** Semaphore: at a time, at most as many puts and gets run as the target takes connections, and at most `most`. A get holds its
 *  connection until its stream is closed. Other calls do not count. */
export function withConnections(target: Target, most = Number.POSITIVE_INFINITY): Target {
  return new LimitedTarget(target, Math.max(1, Math.min(target.supports.connections, most)));
}

class LimitedTarget extends WrappedTarget {
  readonly #supports: Target['supports'];
  readonly #connections: Semaphore;

  constructor(inner: Target, connections: number) {
    super(inner);
    this.#supports = Object.freeze({ ...inner.supports, connections });
    this.#connections = new Semaphore(connections);
  }
  override get supports(): Target['supports'] {
    return this.#supports;
  }

  /** @throws PluginError aborted */
  #take(signal: AbortSignal): Promise<() => void> {
    return this.#connections.take(signal).catch((cause: unknown) => {
      throw new PluginError('aborted', 'stopped', { cause });
    });
  }
  override async put(path: string, source: Readable, o: PutOptions): Promise<Stored> {
    source.on('error', () => undefined); // it may fail while the put waits; the read reports it
    const free = await this.#take(o.signal).catch((error: unknown) => {
      source.destroy();
      throw error;
    });
    try {
      return await this.inner.put(path, source, o);
    } finally {
      free();
    }
  }
  override async get(path: string, o: GetOptions): Promise<Readable> {
    const free = await this.#take(o.signal);
    try {
      const stream = await this.inner.get(path, o);
      if (stream.closed) free();
      else stream.once('close', free);
      return stream;
    } catch (error) {
      free();
      throw error;
    }
  }
}
