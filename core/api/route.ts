/** A row of the route table: its path, its access, and its part of the API description. */
import type { QueryKey } from './query.js';
import type { Reply } from './replies.js';
import type { ApiRequest } from './request.js';

export const base = '/api/v1';

/** Chapters of the API description. */
export const tags = {
  backup: 'Backup jobs and their runs',
  restore: 'Restore jobs and their previews',
  target: 'Remote targets, and folders of all targets',
  container: 'Containers of all runtimes',
  plugin: 'Loaded and refused plugins',
  preference: 'Settings of the service',
  session: 'The first admin, login and logout',
  system: 'The machine',
  update: 'Updates of the firmware',
  service: 'Health, and this API description',
} as const;
export type Tag = keyof typeof tags;

/** Names schemas by their files' names, in any folder of schemas/. */
export interface JsonShape {
  readonly schema: string;
  /** Schema of the answer to `?view=full`. */
  readonly full?: string;
  readonly isList?: true;
  /** Server-sent events; their data have the schema. */
  readonly isEvents?: true;
}
/** An answer that is not JSON, by its media type. */
interface MediaShape {
  readonly media: string;
  readonly full?: undefined;
  readonly isEvents?: undefined;
}
export type AnswerShape = JsonShape | MediaShape;
export interface BodyShape {
  readonly schema: string;
  /** The body holds only the keys that change. */
  readonly isPart?: true;
  readonly mayBeMissing?: true;
  /** The body may also be a form. */
  readonly mayBeForm?: true;
}

export const one = (schema: string, full?: string): JsonShape => ({ schema, ...(full !== undefined && { full }) });
export const listOf = (schema: string, full?: string): JsonShape => ({ ...one(schema, full), isList: true });
/** @param media the media type of text, a stream or a file */
export const content = (media: string): AnswerShape => ({ media });

export interface RouteRow {
  /** operationId: verb and noun. It never changes, because clients are generated from it. */
  readonly id: string;
  readonly summary: string;
  /** user: any logged-in user. */
  readonly access: 'open' | 'user' | 'admin';
  /** Default: the first part of the path. */
  readonly tag?: Tag;
  /** Query keys beside `view`; the route refuses all others. */
  readonly query?: readonly QueryKey[];
  /** bytes: a body of any size that is not JSON. */
  readonly body?: BodyShape | 'bytes';
  /** It checks If-Match against the object's ETag. */
  readonly matches?: true;
  readonly answer: AnswerShape;
  /** Status of the answer. Default: 200. */
  readonly status?: number;
  /** Errors specific to this route, in addition to those of all routes. */
  readonly errors?: Readonly<Record<number, string>>;
}

export interface Route extends RouteRow {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  /** Below /api/v1, unless it begins with `//`. */
  readonly path: string;
  handle(request: ApiRequest): Reply | Promise<Reply>;
}

/** Gives each row its key as its id. */
export function rowsOf<Id extends string>(rows: Readonly<Record<Id, Omit<RouteRow, 'id'>>>): Readonly<Record<Id, RouteRow>>;
export function rowsOf(rows: Readonly<Record<string, Omit<RouteRow, 'id'>>>): Readonly<Record<string, RouteRow>> {
  return Object.fromEntries(Object.entries(rows).map(([id, row]) => [id, { id, ...row }]));
}

export function route(method: Route['method'], path: string, row: RouteRow, handle: Route['handle']): Route {
  return { method, path, ...row, handle };
}

/** The path for the router, without its last slash: the router then matches it with and without. */
export function fullPath({ path }: Pick<Route, 'path'>): string {
  return (path.startsWith('//') ? path.slice(1) : `${base}${path}`).replace(/\/$/, '');
}

/** The keys of the query that the route reads. `view` is among them for every change, so that a client can ask for all in one way. */
export function queryKeysOf({ method, query = [], answer }: Pick<Route, 'method' | 'query' | 'answer'>): readonly QueryKey[] {
  return answer.full === undefined && method === 'get' ? query : [...query, 'view'];
}

const isTag = (text: string): text is Tag => Object.hasOwn(tags, text);

/** @throws Error for a row that needs a `tag` */
export function tagOfRoute({ tag, path }: Pick<Route, 'tag' | 'path'>): Tag {
  const first = path.split('/').find((part) => part !== '') ?? '';
  if (tag !== undefined) return tag;
  if (!isTag(first)) throw new Error(`the route ${path} needs a tag`);
  return first;
}
