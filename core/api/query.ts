/** The query of a request: every key that there is, with its schema for the description and its reader, made of the same limits. */
import { ApiError } from './errors.js';

/** A value is as the client gave it; only a number is parsed. */
interface QueryValues {
  view: 'full';
  limit: number;
  after: number;
  before: number;
  offset: number;
  duration: number;
  purge: 'true';
  type: string;
  force: '1' | 'true';
}
export type QueryKey = keyof QueryValues;
export type Query = Readonly<Partial<QueryValues>>;

interface QueryRow<Value> {
  readonly description: string;
  readonly schema: object;
  readonly example: unknown;
  /** What a value must be, in words. */
  readonly rule: string;
  /** Undefined for a text that the schema does not allow. */
  read(text: string): Value | undefined;
}

function whole(description: string, example: number, limits: { least: number; most?: number; usual?: number }): QueryRow<number> {
  const { least, most = Number.MAX_SAFE_INTEGER, usual } = limits;
  return {
    description,
    example,
    schema: { type: 'integer', minimum: least, maximum: most, ...(usual !== undefined && { default: usual }) },
    rule: `a whole number from ${least} to ${most}`,
    read: (text) => (/^\d+$/.test(text) && Number(text) >= least && Number(text) <= most ? Number(text) : undefined),
  };
}

function oneOf<Word extends string>(description: string, words: readonly Word[]): QueryRow<Word> {
  const read = (text: string) => words.find((word) => word === text);
  return { description, schema: { enum: words }, example: words[0], rule: words.join(' or '), read };
}

/** Longest wait of a poll, and its default, s. */
export const longestPoll = 60;

export const queryRows: { readonly [Key in QueryKey]: QueryRow<QueryValues[Key]> } = {
  view: oneOf('full: adds the keys that a plain answer omits, if there are any', ['full']),
  limit: whole('Maximum number of items; a Link header names the next part', 100, { least: 1, most: 1000 }),
  after: whole('Only items with a higher id', 100, { least: 0 }),
  before: whole('Only items with a lower id', 100, { least: 1 }),
  offset: whole('Number of items to skip', 0, { least: 0 }),
  duration: whole('Seconds to wait for a change', longestPoll, { least: 1, most: longestPoll, usual: longestPoll }),
  purge: oneOf('true: also deletes the backups from the target', ['true']),
  type: {
    description: 'Only containers of this runtime plugin',
    schema: { type: 'string', minLength: 1 },
    example: 'docker',
    rule: 'the id of a runtime plugin',
    read: (text) => text || undefined,
  },
  force: oneOf('As `force` in the body', ['1', 'true']),
};

/** Query keys of paged lists. */
export const partKeys: readonly QueryKey[] = ['limit', 'after', 'offset'];

function put<Key extends QueryKey>(query: Partial<QueryValues>, key: Key, text: string): void {
  const value = queryRows[key].read(text);
  if (value === undefined) throw new ApiError('bad_request', `the query key ${key} must be ${queryRows[key].rule}`);
  query[key] = value;
}

/** @param search the query without its question mark
 *  @param keys those that the route reads
 *  @throws ApiError bad_request for any other key, for a key that stands there twice, and for a value that its schema does not allow */
export function readQuery(search: string, keys: readonly QueryKey[]): Query {
  const query: Partial<QueryValues> = {};
  for (const [name, text] of new URLSearchParams(search)) {
    const key = keys.find((one) => one === name);
    if (key === undefined) {
      const known = keys.length === 0 ? 'takes none' : `takes ${keys.join(', ')}`;
      throw new ApiError('bad_request', `${JSON.stringify(name)} is not a query key of this route, which ${known}`);
    }
    if (Object.hasOwn(query, key)) throw new ApiError('bad_request', `the query key ${key} must be given only once`);
    put(query, key, text);
  }
  return query;
}
