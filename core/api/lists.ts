/** Answers long lists: in pages on request, with pauses for other requests. Stops when the client disconnects. */
import { setImmediate as others } from 'node:timers/promises';
import type { Range } from '../jobs/job.js';
import { ApiError } from './errors.js';
import { atOnce, json, type Reply } from './replies.js';
import type { ApiRequest } from './request.js';

/** A Link header to the next page of the same request. */
export function linkTo({ path, query }: ApiRequest, key: 'after' | 'before', id: number): string {
  const more = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (name !== 'offset') more.set(name, String(value));
  more.set(key, String(id));
  return `<${path}?${more}>; rel="next"`;
}

/** Answers the whole list, or with `limit` one page and a Link header to the next page, if there is one. */
export async function listJobs<T extends { readonly id: number }>(
  request: ApiRequest,
  from: { list(range: Range): Promise<readonly T[]> },
  shown: (one: T) => object | Promise<object>,
): Promise<Reply> {
  const { limit, after, offset } = request.query;
  const found = await from.list({
    ...(limit !== undefined && { limit: limit + 1 }),
    ...(after !== undefined && { after }),
    ...(offset !== undefined && { offset }),
  });
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
