/** The reply of a route: one kind of content with its own headers. index.ts sends it and needs a case for each kind. */
import { setImmediate as others } from 'node:timers/promises';
import { sortKeys } from './values.js';

export interface Head {
  /** Default: 200. */
  readonly status?: number;
  /** Added to the headers of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Session token to set as a cookie; null deletes the cookie. */
  readonly session?: string | null;
  /** Content-Type. Default: `application/json`. */
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
    /** Sent with back-pressure; ended when the client disconnects. */
    | { readonly kind: 'stream'; readonly pieces: AsyncIterable<string> }
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

export function events(from: AsyncIterable<ServerEvent>): Reply {
  return { kind: 'events', events: from, type: 'text/event-stream' };
}

/** Encodes events in the HTML standard's text/event-stream form. */
export async function* eventText(from: AsyncIterable<ServerEvent>): AsyncGenerator<string> {
  for await (const { id, name, data } of from)
    yield name === undefined ? ':\n\n' : `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(sortKeys(data))}\n\n`;
}
