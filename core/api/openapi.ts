/** The API's description, made from the route table and the schemas: it can't drift from either. */
import { schemaText } from '../schemas.js';
import { errorCodes } from './errors.js';
import type { Route } from './request.js';

export const base = '/api/v1';

/** The path as the server matches it: written without its last slash, the router takes it with and without. */
export function fullPath(route: Pick<Route, 'path'>): string {
  const path = route.path.startsWith('//') ? route.path.slice(1) : `${base}${route.path}`;
  return path.replace(/\/$/, '');
}

/** Of the body. */
function contentOf({ schema, binary }: Route): object | undefined {
  if (binary) return { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } };
  return schema === undefined ? undefined : { 'application/json': { schema: { $ref: `#/components/schemas/${schema}` } } };
}

const partKeys: readonly [name: string, least: number, description: string][] = [
  ['limit', 1, 'at most so many; a Link header names the next part'],
  ['after', 0, 'only ids above it'],
  ['offset', 0, 'so many are left out first'],
];
const parts = partKeys.map(([name, minimum, description]) => ({ name, in: 'query', description, schema: { type: 'integer', minimum } }));

const errorText = [
  'an error: {"error":{"code","message"}}. With Accept: application/problem+json as RFC 9457, whose type is',
  `urn:container-backup:error:CODE with one of ${errorCodes.join(', ')}`,
].join(' ');

function operation(route: Route): object {
  const names = [...route.path.matchAll(/[:*](\w+)/g)].map((m) => m[1] ?? '');
  const content = contentOf(route);
  return {
    summary: route.summary,
    security: route.access === 'open' ? [] : [{ cookie: [] }, { bearer: [] }],
    parameters: [
      ...names.map((name) => ({
        name,
        in: 'path',
        required: true,
        schema: name === 'id' ? { type: 'integer', minimum: 1 } : { type: 'string' },
      })),
      ...(route.parts ? parts : []),
    ],
    ...(content === undefined ? {} : { requestBody: { required: true, content } }),
    responses: {
      [route.status ?? 200]: { description: route.status === 202 ? 'begun' : 'done' },
      ...Object.fromEntries(Object.entries(route.answers ?? {}).map(([status, description]) => [status, { description }])),
      default: { description: errorText },
    },
  };
}

export function openApi(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = fullPath(route)
      .replace(/\{\/\*(\w+)\}/, '/{$1}')
      .replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method]: operation(route) };
  }
  const names = [...new Set(routes.flatMap((r) => (r.schema === undefined ? [] : [r.schema])))];
  return {
    openapi: '3.1.0',
    info: { title: 'Container backup', version: '1' },
    paths,
    components: {
      schemas: Object.fromEntries(names.map((name) => [name, schemaText(name)])),
      securitySchemes: { cookie: { type: 'apiKey', in: 'cookie', name: 'session' }, bearer: { type: 'http', scheme: 'bearer' } },
    },
  };
}
