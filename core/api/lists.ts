/** Answers long lists: in pages on request, with pauses for other requests. Stops when the client disconnects. */
import { setImmediate as others } from 'node:timers/promises';
import type { Range } from '../jobs/job.js';
import { ApiError } from './errors.js';
import { atOnce, json, type Reply } from './replies.js';
import type { ApiRequest } from './request.js';

const mostOfPart = 1000;

/** @throws ApiError bad_request */
export function numberOf(request: ApiRequest, key: string, least: number, most: number): number | undefined {
  const text = request.query.get(key);
  if (text === null) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new ApiError('bad_request', `${key} must be a whole number from ${least} to ${most}`);
}

/** Reads `limit`, and `after` (an id) or `offset`. @throws ApiError bad_request */
function rangeOf(request: ApiRequest): Range {
  const limit = numberOf(request, 'limit', 1, mostOfPart);
  const after = numberOf(request, 'after', 0, Number.MAX_SAFE_INTEGER);
  const offset = numberOf(request, 'offset', 0, Number.MAX_SAFE_INTEGER);
  return { ...(limit !== undefined && { limit }), ...(after !== undefined && { after }), ...(offset !== undefined && { offset }) };
}

/** A Link header to the next page of the same request. */
export function linkTo({ path, query }: ApiRequest, key: 'after' | 'before', id: number): string {
  const more = new URLSearchParams(query);
  more.delete('offset');
  more.set(key, String(id));
  return `<${path}?${more}>; rel="next"`;
}

/** Answers the whole list, or with `limit` one page and a Link header to the next page, if there is one. */
export async function listJobs<T extends { readonly id: number }>(
  request: ApiRequest,
  from: { list(range: Range): Promise<readonly T[]> },
  shown: (one: T) => object | Promise<object>,
): Promise<Reply> {
  const { limit, ...start } = rangeOf(request);
  const found = await from.list({ ...start, ...(limit !== undefined && { limit: limit + 1 }) });
  const part = found.slice(0, limit);
  const last = part.at(-1);
  const all: object[] = [];
  for (const one of part) {
    all.push(await shown(one));
    if (all.length % atOnce !== 0) continue;
    await others();
    if (request.gone.aborted) throw new ApiError('unavailable', 'the client has gone');
  }
  return json(all, { headers: found.length > part.length && last ? { Link: linkTo(request, 'after', last.id) } : {} });
}
