import type { Readable } from 'node:stream';
import { anySignal, type Entry, type ListOptions, type PluginError, type PluginLog, type Stored, type Target } from '../contract/index.js';
import { settleWithin } from '../primitives/deadline.js';
import { PulledStream, pullOf } from './pulled-stream.js';
import { stallError, WatchedSource } from './stall.js';
import { type GetOptions, nameOf, type PutOptions, WrappedTarget } from './wrapped-target.js';

export interface StallLimit {
  /** Name of the target in messages. */
  readonly name: string;
  /** A call that moves no byte for so many ms has stalled. */
  readonly stallMs: number;
  readonly log: PluginLog;
}

/** How long an abandoned put may take to remove its upload: the contract's 5 s and a little. */
const settleMs = 6_000;
/** Removing a tree takes many steps, so its limit is so many times as long. */
const treeLimit = 10;

/** Fails a call with `stalled` when it does not answer in time, or when no byte of its stream moves for that time. */
export function withStall(target: Target, limit: StallLimit): Target {
  return new TimedTarget(target, limit);
}

class TimedTarget extends WrappedTarget {
  constructor(
    inner: Target,
    private readonly limit: StallLimit,
  ) {
    super(inner);
  }

  #inTime<T>(what: string, answer: Promise<T>, ms = this.limit.stallMs): Promise<T> {
    return settleWithin(ms, answer, () => stallError(`${this.limit.name}, ${what}`, ms));
  }

  override async put(path: string, source: Readable, o: PutOptions): Promise<Stored> {
    const { stallMs, name } = this.limit;
    const givenUp = new AbortController();
    const signal = anySignal(o.signal, givenUp.signal);
    const { promise: tooLate, reject: late } = rejectable();
    let stall: PluginError | undefined;
    let timer: NodeJS.Timeout | undefined;
    const stalled = () => {
      if (stall !== undefined) return;
      const error = stallError(`${name}, ${nameOf.put(path)}`, stallMs);
      stall = error;
      givenUp.abort();
      timer = setTimeout(() => late(error), settleMs);
    };
    const watched = new WatchedSource({ pull: pullOf(source), close: () => source.destroy() }, { stallMs, stalled });
    try {
      return await Promise.race([this.inner.put(path, watched, { ...o, signal }), tooLate]);
    } catch (error) {
      watched.destroy();
      source.destroy();
      throw stall ?? error;
    } finally {
      watched.unwatch();
      clearTimeout(timer);
    }
  }

  /** The limit counts only while the reader waits for bytes. */
  override async get(path: string, o: GetOptions): Promise<Readable> {
    const what = nameOf.get(path);
    const stream = await this.#inTime(what, this.inner.get(path, o));
    const next = pullOf(stream);
    const pull = () => this.#inTime(what, next());
    return new PulledStream({ pull, close: () => stream.destroy(), abort: { signal: o.signal, what: path } });
  }

  override stat(path: string): Promise<Entry | undefined> {
    return this.#inTime(nameOf.stat(path), this.inner.stat(path));
  }
  override async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    const entries = this.inner.list(path, o)[Symbol.asyncIterator]();
    for (;;) {
      const next = await this.#inTime(nameOf.list(path), entries.next());
      if (next.done) return;
      yield next.value;
    }
  }
  override remove(path: string): Promise<void> {
    return this.#inTime(nameOf.remove(path), this.inner.remove(path), treeLimit * this.limit.stallMs);
  }
  override space(): Promise<{ total: number; free: number } | undefined> {
    return this.#inTime(nameOf.space(), this.inner.space());
  }
  /** Waits a limited time, so that a target that does not close holds up no run. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await this.#inTime('closing', super[Symbol.asyncDispose](), settleMs).catch((error: unknown) => {
      this.limit.log('warn', `closing the target failed: ${error}`);
    });
  }
}

/** A promise that is only ever rejected. A rejection that nobody awaits is ignored. */
function rejectable(): { readonly promise: Promise<never>; reject(error: Error): void } {
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<never>((_, fail) => {
    reject = fail;
  });
  promise.catch(() => undefined);
  return { promise, reject: (error) => reject(error) };
}
