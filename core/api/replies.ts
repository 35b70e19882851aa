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

export type Reply = Head &
  (
    | { readonly kind: 'json'; readonly value: unknown }
    /** Piece by piece, as fast as the client reads; ended when it has gone. */
    | { readonly kind: 'stream'; readonly pieces: AsyncIterable<string> }
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
