/** A request as the routes see it, independent of the web framework. */
import type { Readable } from 'node:stream';
import type { Session } from '../store/index.js';
import { ApiError } from './errors.js';
import type { Query } from './query.js';

export type Body = Readonly<Record<string, unknown>>;

export interface ApiRequest {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  /** Still percent-encoded. */
  readonly path: string;
  /** `?view=full` */
  readonly full: boolean;
  readonly session: Session | undefined;
  readonly address: string;
  readonly ifMatch: string | undefined;
  /** Last-Event-ID of a client that reconnects to the events; '' if absent. */
  readonly lastEventId: string;
  /** Aborted when the client disconnects. */
  readonly gone: AbortSignal;
  text(): Promise<string>;
  /** Content-Length. */
  readonly length: number | undefined;
  /** Streams a body of any size. */
  stream(): Readable;
}

export function isBody(value: unknown): value is Body {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Parses the body as JSON, whatever the Content-Type says. */
export async function jsonBody(request: ApiRequest): Promise<Body> {
  return toBody(await request.text());
}

// Deeper than any valid body. Code that recurses into a value (structuredClone) would overflow the stack on thousands of levels.
const deepest = 32;

function tooDeep(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; depth < deepest; depth++) {
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? Object.values(one) : []));
    if (level.length === 0) return false;
  }
  return true;
}

/** @throws ApiError bad_request */
export function toBody(text: string): Body {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ApiError('bad_request', 'the body must be JSON');
  }
  if (!isBody(value)) throw new ApiError('bad_request', 'the body must be a JSON object');
  if (tooDeep(value)) throw new ApiError('bad_request', `the body must not be nested deeper than ${deepest} levels`);
  return value;
}

/** Drops the read-only keys, so that a client can send back the object of a GET. */
export async function specBody(request: ApiRequest): Promise<Body> {
  const { id: _id, state: _state, ...rest } = await jsonBody(request);
  return rest;
}

/** @throws ApiError not_found: an id that isn't a positive integer names nothing */
export function idOf(request: ApiRequest): number {
  const text = request.params.id ?? '';
  const id = Number(text);
  if (!/^[1-9][0-9]*$/.test(text) || !Number.isSafeInteger(id)) throw new ApiError('not_found', `there is no id ${text}`);
  return id;
}

export function requireFound<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new ApiError('not_found', `there is no ${what}`);
  return value;
}

export function requireLogin(request: ApiRequest): Session {
  if (request.session === undefined) throw new ApiError('unauthorized', 'log in first');
  return request.session;
}
