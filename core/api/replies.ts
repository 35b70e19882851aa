/** The reply of a route: one kind of content with its own headers. listener.ts sends it and needs a case for each kind. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import type { Readable } from 'node:stream';
import { setImmediate as others } from 'node:timers/promises';
import { hasCode } from '../primitives/guards.js';
import { ApiError } from './errors.js';
import { sortKeys } from './values.js';

export interface Head {
  /** Default: 200. */
  readonly status?: number;
  /** Added to the headers of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Session token to set as a cookie; null deletes the cookie. */
  readonly session?: string | null;
  /** Content-Type, or the ending of a file's name that it is found by. Default: `application/json`. */
  readonly type?: string;
}

/** A server-sent event. Without a name it is a comment, which clients ignore. */
export interface ServerEvent {
  readonly id?: string;
  readonly name?: string;
  readonly data?: object;
}

export type Reply = Head &
  (
    | { readonly kind: 'json'; readonly value: unknown }
    | { readonly kind: 'text'; readonly text: string }
    /** Sent with back-pressure; ended when the client disconnects. An error cuts the connection, so that no client takes a part for
     *  the whole. */
    | { readonly kind: 'stream'; readonly pieces: AsyncIterable<string | Uint8Array> }
    /** An open file, which is closed after it is sent. */
    | { readonly kind: 'file'; readonly content: Readable; readonly size: number }
    /** Server-sent events on a connection that stays open. */
    | { readonly kind: 'events'; readonly events: AsyncIterable<ServerEvent> }
  );

/** Items per step; between steps the event loop serves other requests. */
export const atOnce = 100;

/** Answers JSON; a long list is streamed. */
export function json(value: unknown, head: Head = {}): Reply {
  if (Array.isArray(value) && value.length > atOnce) return { ...head, kind: 'stream', pieces: listText(value) };
  return { ...head, kind: 'json', value };
}

async function* listText(list: readonly unknown[]): AsyncGenerator<string> {
  for (let at = 0; at < list.length; at += atOnce) {
    const items = list.slice(at, at + atOnce).map((item) => JSON.stringify(sortKeys(item)));
    yield `${at === 0 ? '[' : ','}${items.join(',')}${at + atOnce >= list.length ? ']' : ''}`;
    await others();
  }
}

export function text(value: string, head: Head = {}): Reply {
  return { type: 'text/plain', ...head, kind: 'text', text: value };
}

/** @param head its `type` says what the pieces are */
export function stream(pieces: AsyncIterable<string | Uint8Array>, head: Head & { readonly type: string }): Reply {
  return { ...head, kind: 'stream', pieces };
}

/** Opens a file of the service's own folder, which is only ever replaced by rename. Browsers keep it, and ask each time whether it is
 *  still the same.
 *  @param path never made of a client's text: a route finds it in a list of its own
 *  @throws ApiError not_found for what is absent, a link or no file */
export async function file(path: string, head: Head = {}): Promise<Reply> {
  const absent = () => new ApiError('not_found', `there is no file ${basename(path)}`);
  // O_NONBLOCK: opening a FIFO would wait for its writer.
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error: unknown) => {
    throw hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP') ? absent() : error;
  });
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw absent();
  }
  const { ino, size, mtime, mtimeMs, ctimeMs } = stat;
  const tag = [ino, size, mtimeMs, ctimeMs].map((number) => Math.round(number).toString(36)).join('-');
  return {
    type: extname(path),
    ...head,
    kind: 'file',
    content: handle.createReadStream({ start: 0, end: Math.max(0, size - 1) }),
    size,
    headers: { 'Cache-Control': 'no-cache', ETag: `"${tag}"`, 'Last-Modified': mtime.toUTCString(), ...head.headers },
  };
}

export function events(from: AsyncIterable<ServerEvent>): Reply {
  return { kind: 'events', events: from, type: 'text/event-stream' };
}

/** Encodes events in the HTML standard's text/event-stream form. */
export async function* eventText(from: AsyncIterable<ServerEvent>): AsyncGenerator<string> {
  for await (const { id, name, data } of from)
    yield name === undefined ? ':\n\n' : `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(sortKeys(data))}\n\n`;
}
