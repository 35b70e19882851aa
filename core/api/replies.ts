/** What a route answers: one kind of content, with its own headers. index.ts has the one way out; a further kind is a case there. */
import { setImmediate as others } from 'node:timers/promises';
import { sortKeys } from './values.js';

export interface Head {
  /** 200 without. */
  readonly status?: number;
  /** Over those that every answer has. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The session's token to set as a cookie; null takes the cookie away. */
  readonly session?: string | null;
  /** Content-Type; `application/json` without. */
  readonly type?: string;
}

/** One without a name is a comment, which clients pass over. */
export interface ServerEvent {
  readonly id?: string;
  readonly name?: string;
  readonly data?: object;
}

export type Reply = Head &
  (
    | { readonly kind: 'json'; readonly value: unknown }
    /** Piece by piece, as fast as the client reads; ended when it has gone. */
    | { readonly kind: 'stream'; readonly pieces: AsyncIterable<string> }
    /** Server-sent events, which stay open. */
    | { readonly kind: 'events'; readonly events: AsyncIterable<ServerEvent> }
  );

/** Between so many, others have their turn. */
export const atOnce = 100;

/** A long list is sent piece by piece. */
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

/** As the HTML standard writes server-sent events. */
export async function* eventText(from: AsyncIterable<ServerEvent>): AsyncGenerator<string> {
  for await (const { id, name, data } of from)
    yield name === undefined ? ':\n\n' : `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(sortKeys(data))}\n\n`;
}
