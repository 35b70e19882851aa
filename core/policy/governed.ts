/** What holds for every target, whoever wrote it: tries again, keeps to a bandwidth and to a number of connections, and
 *  gives up on what does not move. */
import { pipeline, Readable } from 'node:stream';
import { anySignal, type Entry, type ListOptions, PluginError, type PluginLog, type Stored, type Target } from '../contract/index.js';
import { Semaphore } from '../primitives/semaphore.js';
import type { Bandwidth } from './bandwidth.js';
import { beforeNextTry, briefWaits, type RetryOptions, retry } from './retry.js';
import { settleInTime, stallError, WatchedSource } from './stall.js';

export interface Policy {
  /** As messages call the target. */
  readonly name: string;
  readonly bandwidth: Bandwidth;
  /** Puts and gets at a time, when it is fewer than the target takes. */
  readonly connections?: number;
  /** How long nothing may move. */
  readonly stallMs: number;
  readonly signal: AbortSignal;
  readonly log: PluginLog;
  /** Waits between tries; for tests. */
  readonly waits?: readonly number[];
}

/** How long a put that was given up may take to leave no trace, by the contract, and a little. */
const settleMs = 6_000;
/** A tree is many steps, each of which may take its time. */
const treeLimit = 10;

export interface PolicyTarget extends Target {
  /** The same, for a few bytes that must not wait until a long put gives its connection back: their put takes none. */
  readonly aside: Target;
}

/** The target under the policy. Disposing disposes the target. */
export function withPolicy(target: Target, policy: Policy): PolicyTarget {
  return Object.assign(new PolicedTarget(target, policy), { aside: new PolicedTarget(target, policy) });
}

interface GetOptions {
  readonly signal: AbortSignal;
  readonly offset?: number;
  readonly length?: number;
}

class PolicedTarget implements Target {
  readonly supports: Target['supports'];
  readonly #connections: Semaphore;

  constructor(
    private readonly target: Target,
    private readonly policy: Policy,
  ) {
    const connections = Math.max(1, Math.min(target.supports.connections, policy.connections ?? Number.POSITIVE_INFINITY));
    this.supports = { ...target.supports, connections };
    this.#connections = new Semaphore(connections);
  }
  get server(): string | undefined {
    return this.target.server;
  }

  #retryOptions(what: string, signal = this.policy.signal): RetryOptions {
    const again = (error: PluginError, ms: number) =>
      this.policy.log('info', `${this.policy.name}: ${what} is tried again in ${ms} ms: ${error.message}`);
    return { delays: this.policy.waits ?? briefWaits, signal, onRetry: again };
  }
  #call<T>(what: string, work: () => Promise<T>, ms = this.policy.stallMs): Promise<T> {
    return retry(() => settleInTime(work(), ms, `${this.policy.name}, ${what}`), this.#retryOptions(what));
  }

  /** Not tried again: the source is gone. Whoever can read it anew starts over. */
  async put(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored> {
    source.on('error', () => undefined); // while it waits for its turn; reading reports it
    const free = await this.#connection(o.signal, source);
    try {
      return await this.#putWatched(path, source, o);
    } finally {
      free();
    }
  }
  async #connection(signal: AbortSignal, source?: Readable): Promise<() => void> {
    return this.#connections.take(signal).catch((cause: unknown) => {
      source?.destroy();
      throw new PluginError('aborted', 'stopped', { cause });
    });
  }
  async #putWatched(path: string, source: Readable, o: { signal: AbortSignal; replace?: boolean }): Promise<Stored> {
    const { stallMs, bandwidth, name } = this.policy;
    const given = new AbortController();
    const signal = anySignal(o.signal, given.signal);
    let late: (error: PluginError) => void = () => undefined;
    const tooLate = new Promise<never>((_, reject) => {
      late = reject;
    });
    tooLate.catch(() => undefined);
    let stall: PluginError | undefined;
    let timer: NodeJS.Timeout | undefined;
    const stalled = () => {
      if (stall !== undefined) return;
      const error = stallError(`${name}, storing ${path}`, stallMs);
      stall = error;
      given.abort();
      timer = setTimeout(() => late(error), settleMs);
    };
    const watched = new WatchedSource({ bandwidth, signal, stallMs, stalled });
    pipeline(source, watched, () => undefined); // each tells the other; the target sees what came of it
    watched.on('error', () => undefined);
    try {
      return await Promise.race([this.target.put(path, watched, { ...o, signal }), tooLate]);
    } catch (error) {
      watched.destroy();
      source.destroy();
      throw stall ?? error;
    } finally {
      watched.unwatch();
      clearTimeout(timer);
    }
  }

  /** Goes on from where a connection broke: whoever reads checks the whole against its hash. */
  async get(path: string, o: GetOptions): Promise<Readable> {
    const { policy } = this;
    const free = await this.#connection(o.signal);
    const closed = new AbortController();
    const signal = anySignal(o.signal, closed.signal);
    try {
      const first = await this.#open(path, { ...o, signal });
      const stream = Readable.from(this.#chunks(path, { ...o, signal }, first), { objectMode: false, highWaterMark: 1 << 20 });
      stream.on('error', () => undefined); // an abort before anybody reads must not end the process; reading reports it
      const abort = () => stream.destroy(new PluginError('aborted', `${path}: stopped`));
      o.signal.addEventListener('abort', abort, { once: true });
      stream.once('close', () => {
        o.signal.removeEventListener('abort', abort);
        closed.abort();
        first.destroy();
        free();
      });
      if (o.signal.aborted) abort();
      return stream;
    } catch (error) {
      free();
      throw policy.signal.aborted && !(error instanceof PluginError) ? new PluginError('aborted', 'stopped') : error;
    }
  }
  #open(path: string, o: GetOptions): Promise<Readable> {
    const open = () => settleInTime(this.target.get(path, o), this.policy.stallMs, `${this.policy.name}, reading ${path}`);
    return retry(open, this.#retryOptions(`reading ${path}`, o.signal));
  }
  async *#chunks(path: string, o: GetOptions, first: Readable): AsyncGenerator<Uint8Array> {
    const { offset = 0, length } = o;
    let given = 0;
    let failed = 0;
    for (let stream = first; ; ) {
      try {
        for await (const chunk of this.#inTime(stream, path)) {
          await this.policy.bandwidth.take(chunk.length, o.signal);
          given += chunk.length;
          failed = 0;
          yield chunk;
        }
        return;
      } catch (error) {
        stream.destroy();
        await beforeNextTry(error, ++failed, this.#retryOptions(`reading ${path} from byte ${offset + given}`, o.signal));
        stream = await this.#open(path, { ...o, offset: offset + given, ...(length !== undefined && { length: length - given }) });
      }
    }
  }
  /** Only the time in which somebody waits for a chunk counts. */
  async *#inTime(stream: Readable, path: string): AsyncGenerator<Uint8Array> {
    const chunks: AsyncIterator<Uint8Array> = stream[Symbol.asyncIterator]();
    for (;;) {
      const next = await settleInTime(chunks.next(), this.policy.stallMs, `${this.policy.name}, reading ${path}`);
      if (next.done) return;
      yield next.value;
    }
  }

  stat(path: string): Promise<Entry | undefined> {
    return this.#call(`looking at ${path || 'the top'}`, () => this.target.stat(path));
  }
  /** Begins anew when it is cut off, and passes over what it has told already. */
  async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    const told = new Set<string>();
    const what = `listing ${path || 'the top'}`;
    for (let failed = 1; ; failed++) {
      try {
        const entries = this.target.list(path, o)[Symbol.asyncIterator]();
        for (;;) {
          const next = await settleInTime(entries.next(), this.policy.stallMs, `${this.policy.name}, ${what}`);
          if (next.done) return;
          if (told.has(next.value.name)) continue;
          told.add(next.value.name);
          yield next.value;
        }
      } catch (error) {
        await beforeNextTry(error, failed, this.#retryOptions(what));
      }
    }
  }
  remove(path: string): Promise<void> {
    return this.#call(`removing ${path}`, () => this.target.remove(path), treeLimit * this.policy.stallMs);
  }
  space(): Promise<{ total: number; free: number } | undefined> {
    return this.#call('asking for free space', () => this.target.space());
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await settleInTime(Promise.resolve(this.target[Symbol.asyncDispose]()), settleMs, this.policy.name).catch((error: unknown) => {
      this.policy.log('warn', `closing the target failed: ${error}`);
    });
  }
}
