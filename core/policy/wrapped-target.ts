import type { Readable } from 'node:stream';
import type { Entry, ListOptions, Stored, Target } from '../contract/index.js';

export interface PutOptions {
  readonly signal: AbortSignal;
  readonly replace?: boolean;
}
export interface GetOptions {
  readonly signal: AbortSignal;
  readonly offset?: number;
  readonly length?: number;
}

/** Passes every call to the inner target. A subclass overrides the calls that it changes. */
export abstract class WrappedTarget implements Target {
  constructor(protected readonly inner: Target) {}

  get supports(): Target['supports'] {
    return this.inner.supports;
  }
  get server(): string | undefined {
    return this.inner.server;
  }
  put(path: string, source: Readable, o: PutOptions): Promise<Stored> {
    return this.inner.put(path, source, o);
  }
  get(path: string, o: GetOptions): Promise<Readable> {
    return this.inner.get(path, o);
  }
  stat(path: string): Promise<Entry | undefined> {
    return this.inner.stat(path);
  }
  list(path: string, o?: ListOptions): AsyncIterable<Entry> {
    return this.inner.list(path, o);
  }
  remove(path: string): Promise<void> {
    return this.inner.remove(path);
  }
  space(): Promise<{ total: number; free: number } | undefined> {
    return this.inner.space();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.inner[Symbol.asyncDispose]();
  }
}

/** How messages name a call. */
export const nameOf = {
  put: (path: string): string => `storing ${path}`,
  get: (path: string): string => `reading ${path}`,
  stat: (path: string): string => `looking at ${path || 'the top'}`,
  list: (path: string): string => `listing ${path || 'the top'}`,
  remove: (path: string): string => `removing ${path}`,
  space: (): string => 'asking for free space',
};
