import type { Readable } from 'node:stream';
import { anySignal, type Entry, type ListOptions, PluginError, type PluginLog, type Target } from '../contract/index.js';
import { type Pull, PulledStream, pullOf } from './pulled-stream.js';
import { beforeNextTry, type RetryOptions, retry } from './retry.js';
import { type GetOptions, nameOf, WrappedTarget } from './wrapped-target.js';

export interface TargetRetry {
  /** Name of the target in messages. */
  readonly name: string;
  /** Waits before each further try, in ms. */
  readonly delays: readonly number[];
  /** Ends the waits of calls that take no signal of their own. */
  readonly signal: AbortSignal;
  readonly log: PluginLog;
}

/** Retries calls that fail with a retryable error. A get resumes where it broke; the reader checks the whole against its hash. A
 *  put is not retried, since its source is consumed: a caller that can read the source anew starts over. */
export function withRetry(target: Target, o: TargetRetry): Target {
  return new RetryingTarget(target, o);
}

class RetryingTarget extends WrappedTarget {
  constructor(
    inner: Target,
    private readonly o: TargetRetry,
  ) {
    super(inner);
  }

  #options(what: string, signal = this.o.signal): RetryOptions {
    const { name, delays, log } = this.o;
    const onRetry = (error: PluginError, ms: number) => log('info', `${name}: ${what} is tried again in ${ms} ms: ${error.message}`);
    return { delays, signal, onRetry };
  }

  override async get(path: string, o: GetOptions): Promise<Readable> {
    const closed = new AbortController();
    const signal = anySignal(o.signal, closed.signal);
    let stream = await this.#open(path, { ...o, signal });
    const resume = async (error: unknown, failed: number, given: number): Promise<Readable> => {
      stream.destroy();
      const { offset = 0, length } = o;
      const from = offset + given;
      await beforeNextTry(error, failed, this.#options(`${nameOf.get(path)} from byte ${from}`, signal));
      stream = await this.#open(path, { ...o, signal, offset: from, ...(length !== undefined && { length: length - given }) });
      return stream;
    };
    const close = () => {
      closed.abort();
      stream.destroy();
    };
    return new PulledStream({ pull: resuming(stream, resume), close, abort: { signal: o.signal, what: path } });
  }
  #open(path: string, o: GetOptions): Promise<Readable> {
    return retry(() => this.inner.get(path, o), this.#options(nameOf.get(path), o.signal)).catch((error: unknown) => {
      // an aborted call may throw anything
      throw this.o.signal.aborted && !(error instanceof PluginError) ? new PluginError('aborted', 'stopped', { cause: error }) : error;
    });
  }

  override stat(path: string): Promise<Entry | undefined> {
    return retry(() => this.inner.stat(path), this.#options(nameOf.stat(path)));
  }
  /** Restarts a listing that is cut off, and skips the entries already given. */
  override async *list(path: string, o: ListOptions = {}): AsyncGenerator<Entry> {
    const given = new Set<string>();
    for (let failed = 1; ; failed++) {
      try {
        for await (const entry of this.inner.list(path, o)) {
          if (given.has(entry.name)) continue;
          given.add(entry.name);
          yield entry;
        }
        return;
      } catch (error) {
        await beforeNextTry(error, failed, this.#options(nameOf.list(path)));
      }
    }
  }
  override remove(path: string): Promise<void> {
    return retry(() => this.inner.remove(path), this.#options(nameOf.remove(path)));
  }
  override space(): Promise<{ total: number; free: number } | undefined> {
    return retry(() => this.inner.space(), this.#options(nameOf.space()));
  }
}

/** Gives the bytes of a stream. When it breaks, `resume` opens another stream, whose bytes follow. `failed` counts the failures since
 *  the last bytes, `given` the bytes so far. */
function resuming(first: Readable, resume: (error: unknown, failed: number, given: number) => Promise<Readable>): Pull {
  let next = pullOf(first);
  let given = 0;
  let failed = 0;
  return async () => {
    for (;;) {
      try {
        const bytes = await next();
        given += bytes?.length ?? 0;
        failed = 0;
        return bytes;
      } catch (error) {
        next = pullOf(await resume(error, ++failed, given));
      }
    }
  };
}
