import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Test } from 'tap';
import { type Entry, PluginError, type PluginErrorCode, type Target } from '../../../core/contract/index.js';

/** What a check gets: a folder of its own on the target, which the suite removes afterwards. */
export interface Bench {
  readonly t: Test;
  readonly target: Target;
  readonly open: () => Promise<Target>;
  readonly folder: string;
}

export interface Check {
  readonly title: string;
  readonly run: (bench: Bench) => Promise<void>;
}

/** A signal that nobody aborts. */
export const never = (): AbortSignal => new AbortController().signal;

/** Bytes that depend on their position, so that a piece at a wrong offset shows; the period is prime. */
export function pattern(length: number, from = 0): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = (((from + i) % 65_521) * 31) & 255;
  return bytes;
}

export interface Supply {
  readonly stream: Readable;
  /** Bytes given so far. */
  given(): number;
}

/** A source that makes its bytes on demand. After the last byte it ends, stalls for ever or fails. */
export function supply(length: number, o: { end?: 'end' | 'stall' | 'fail'; chunk?: number; at?: (given: number) => void } = {}): Supply {
  const { end = 'end', chunk = 64 << 10 } = o;
  let given = 0;
  const stream = new Readable({
    highWaterMark: chunk,
    read() {
      const size = Math.min(chunk, length - given);
      if (size > 0) {
        const bytes = pattern(size, given);
        given += size;
        o.at?.(given);
        this.push(bytes);
      } else if (end === 'end') this.push(null);
      else if (end === 'fail') this.destroy(new Error('the source broke'));
    },
  });
  return { stream, given: () => given };
}

export async function read(stream: Readable): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytesOf(stream)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function* bytesOf(stream: Readable): AsyncGenerator<Uint8Array> {
  const chunks: AsyncIterable<unknown> = stream;
  for await (const chunk of chunks) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('a target gives bytes');
    yield chunk;
  }
}

export async function digest(stream: Readable): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of bytesOf(stream)) hash.update(chunk);
  return hash.digest('hex');
}

export async function entries(target: Target, path: string): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of target.list(path)) found.push(entry);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function store(target: Target, path: string, bytes: Uint8Array | string, replace = false): Promise<{ bytes: number }> {
  return target.put(path, Readable.from([Buffer.from(bytes)]), { signal: never(), replace });
}

/** Asserts that the work fails with one of the codes. @returns the error */
export async function refused(t: Test, work: Promise<unknown>, codes: readonly PluginErrorCode[], what: string): Promise<void> {
  const error: unknown = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof PluginError)) {
    t.fail(`${what}: expected a PluginError ${codes.join(' or ')}, got ${String(error)}`);
    return;
  }
  t.ok(codes.length === 0 || codes.includes(error.code), `${what}: ${error.code} (${error.message})`);
}

/** The PluginError that the work must fail with. */
export async function failure(work: Promise<unknown>): Promise<PluginError> {
  const error: unknown = await work.then(
    () => 'nothing went wrong',
    (error: unknown) => error,
  );
  if (error instanceof PluginError) return error;
  throw new Error(`expected a PluginError, got ${String(error)}`, { cause: error });
}
