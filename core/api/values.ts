/** Formats values for answers: sorted keys, local times, ETags. */
import { createHash } from 'node:crypto';
import { ApiError } from './errors.js';
import type { ApiRequest } from './request.js';

/** Sorts keys, as in the captured answers. */
export function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (typeof value !== 'object' || value === null) return value;
  const pairs = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(pairs.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sortKeys(v)]));
}

/** YYYY-MM-DD HH:MM:SS in the appliance's time zone. */
export function localTime(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, '0');
  const day = `${String(d.getFullYear()).padStart(4, '0')}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  return `${day} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** The ETag covers only what a client can change: a job's progress must not make an edit fail. */
export function tagOf(id: number, spec: unknown): string {
  return `"${createHash('sha256')
    .update(JSON.stringify(sortKeys({ id, spec })))
    .digest('base64url')
    .slice(0, 22)}"`;
}

/** @throws ApiError precondition_failed when the client edits an outdated version */
export function checkMatch(request: ApiRequest, tag: string): void {
  if (request.ifMatch === undefined || request.ifMatch.trim() === '*') return;
  if (request.ifMatch.split(',').some((t) => t.trim() === tag)) return;
  throw new ApiError('precondition_failed', 'it was changed meanwhile; get it again and repeat the change');
}
