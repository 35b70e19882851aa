/** Makes the OpenAPI description from the route table, the schemas and the table of errors, so that it cannot drift from them. */
import { STATUS_CODES } from 'node:http';
import { errorRows } from '../primitives/error-rows.js';
import { schemaText } from '../schemas.js';
import { type QueryKey, queryRows } from './query.js';
import { type AnswerShape, fullPath, type JsonShape, queryKeysOf, type Route, tagOfRoute, tags } from './route.js';
import { isObject, SchemaSet } from './schema-set.js';

const info = {
  title: 'Container Backup',
  version: '1',
  description:
    'Backs up and restores containers. A body is JSON whatever its Content-Type says, a trailing slash is optional, and times are in the local time of the appliance unless their key ends with _at.',
  license: { name: 'MIT', identifier: 'MIT' },
};

/** Each code with its status and fix, for people and for client generators. */
function errorTypes(): object {
  const rows = Object.entries(errorRows).map(([code, row]) => [`urn:container-backup:error:${code}`, row] as const);
  const texts = rows.map(([type, { status, retryable, fix }]) => [type, `${status}${retryable ? ', may succeed later' : ''}. ${fix}`]);
  return {
    title: 'ErrorType',
    description: 'Stable: clients may depend on it.',
    type: 'string',
    enum: rows.map(([type]) => type),
    'x-enumDescriptions': Object.fromEntries(texts),
  };
}

const partDescription = 'Only the keys that change. `id` and `state` are ignored, so that an object got by GET can be sent back.';

function bodyOf({ body }: Route, set: SchemaSet): object | undefined {
  if (body === undefined) return undefined;
  if (body === 'bytes')
    return { required: true, content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } };
  const schema = body.isPart ? set.partOf(body.schema, partDescription) : set.whole(body.schema);
  const media = { schema, example: exampleOf(body.schema) };
  return {
    required: body.mayBeMissing !== true,
    content: { 'application/json': media, ...(body.mayBeForm && { 'application/x-www-form-urlencoded': media }) },
  };
}

function exampleOf(schema: string): unknown {
  const { examples } = schemaText(schema);
  if (!Array.isArray(examples) || examples.length === 0) throw new Error(`the schema ${schema} needs examples`);
  return examples[0];
}

/** The answer's content by its media type: schema and examples, plain or with ?view=full. */
function contentOf(answer: AnswerShape, set: SchemaSet): object {
  if ('media' in answer)
    return { [answer.media]: { schema: { type: 'string', ...(!/^text\//.test(answer.media) && { format: 'binary' }) } } };
  return { [answer.isEvents ? 'text/event-stream' : 'application/json']: mediaOf(answer, set) };
}

function mediaOf({ schema, full, isList }: JsonShape, set: SchemaSet): object {
  const shapeOf = (name: string) => (isList ? { type: 'array', items: set.whole(name) } : set.whole(name));
  const sampleOf = (name: string) => (isList ? [exampleOf(name)] : exampleOf(name));
  if (full === undefined || full === schema) return { schema: shapeOf(schema), example: sampleOf(schema) };
  return {
    schema: { anyOf: [shapeOf(schema), shapeOf(full)] },
    examples: {
      short: { summary: 'Without ?view=full', value: sampleOf(schema) },
      full: { summary: 'With ?view=full', value: sampleOf(full) },
    },
  };
}

const errorContent = (set: SchemaSet) => ({
  'application/json': { schema: set.whole('error'), example: exampleOf('error') },
  'application/problem+json': { schema: set.whole('problem'), example: exampleOf('problem') },
});

/** Statuses of this route's errors, in addition to those of any route. */
function statusesOf(route: Route): number[] {
  const statuses = [
    400, // for an unknown query key, if for nothing else
    ...(route.access === 'open' ? [] : [401]),
    ...(route.access === 'admin' ? [403] : []),
    ...(/[:*]/.test(route.path) ? [404] : []),
    ...(route.matches ? [412] : []),
  ];
  return [...new Set([...statuses, ...Object.keys(route.errors ?? {}).map(Number)])].sort();
}

function errorsOf(route: Route, set: SchemaSet): object {
  const named = statusesOf(route).map((status) => {
    const own = route.errors?.[status];
    const shared = { $ref: `#/components/responses/error-${status}` };
    return [status, own === undefined ? shared : { description: own, content: errorContent(set) }];
  });
  return { ...Object.fromEntries(named), default: { $ref: '#/components/responses/error' } };
}

function sharedErrors(routes: readonly Route[], set: SchemaSet): object {
  const statuses = new Set(routes.flatMap((route) => statusesOf(route).filter((status) => route.errors?.[status] === undefined)));
  const codesOf = (status: number) => Object.entries(errorRows).flatMap(([code, row]) => (row.status === status ? [code] : []));
  const named = [...statuses].sort().map((status) => {
    const description = `${STATUS_CODES[status]}: ${codesOf(status).join(', ')}`;
    return [`error-${status}`, { description, content: errorContent(set) }];
  });
  return { ...Object.fromEntries(named), error: { description: 'Any other error', content: errorContent(set) } };
}

const pathRows: Readonly<Record<string, { readonly description: string; readonly schema: object; readonly example: unknown }>> = {
  id: { description: 'Id of the object', schema: { type: 'integer', minimum: 1 }, example: 1 },
  type: { description: 'Id of a runtime plugin', schema: { type: 'string' }, example: 'docker' },
  container: { description: 'Id of the container, as in the list of containers', schema: { type: 'string' }, example: 'web' },
  run: { description: 'Name of the run, as in the list of runs', schema: { type: 'string' }, example: '2026-11-24_00-00-00' },
  path: {
    description: 'Folder below the base of the target or the shares; / or %2F separates its parts. The top when omitted',
    schema: { type: 'string' },
    example: 'backup',
  },
};

const lastEvent = {
  name: 'Last-Event-ID',
  in: 'header',
  description: 'Id of the last event that the client received; a browser sends it automatically',
  schema: { type: 'string' },
  example: 'lq3x9k2a-17',
};

function parametersOf(route: Route): object[] {
  const query = (name: QueryKey) => {
    const { description, schema, example } = queryRows[name];
    return { name, in: 'query', description, schema, example };
  };
  const names = [...route.path.matchAll(/[:*](\w+)/g)].map((m) => m[1] ?? '');
  const match = { name: 'If-Match', in: 'header', description: 'The ETag of the object that is changed', schema: { type: 'string' } };
  return [
    ...names.map((name) => ({ name, in: 'path', required: true, ...pathRows[name] })),
    ...queryKeysOf(route).map(query),
    ...(route.answer.isEvents ? [lastEvent] : []),
    ...(route.matches ? [{ ...match, example: '"tF2nO0aV1mWcYb9XkQzLrA"' }] : []),
  ];
}

function operation(route: Route, set: SchemaSet): object {
  const requestBody = bodyOf(route, set);
  const link = { Link: { description: 'The next part, when there is one', schema: { type: 'string' } } };
  return {
    operationId: route.id,
    summary: route.summary,
    tags: [tagOfRoute(route)],
    security: route.access === 'open' ? [] : [{ cookie: [] }, { bearer: [] }],
    parameters: parametersOf(route),
    ...(requestBody && { requestBody }),
    responses: {
      [route.status ?? 200]: {
        description: route.status === 202 ? 'Started' : 'Done',
        ...(route.query?.includes('limit') && { headers: link }),
        content: contentOf(route.answer, set),
      },
      ...errorsOf(route, set),
    },
  };
}

/** The path in OpenAPI's form. */
function templateOf(route: Route): string {
  return fullPath(route)
    .replace(/\{\/\*(\w+)\}/, '/{$1}')
    .replace(/:(\w+)/g, '{$1}');
}

function tagRows(routes: readonly Route[]): object[] {
  const used = new Set<string>(routes.map(tagOfRoute));
  return Object.entries(tags).flatMap(([name, description]) => (used.has(name) ? [{ name, description }] : []));
}

/** @throws Error for a schema without an example or with a reference that leads nowhere */
export function openApi(routes: readonly Route[]): object {
  const set = new SchemaSet();
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = templateOf(route);
    paths[path] = { ...paths[path], [route.method]: operation(route, set) };
  }
  const responses = sharedErrors(routes, set);
  const { problem } = set.schemas;
  const properties = isObject(problem) && isObject(problem.properties) ? problem.properties : {};
  const named = { ...properties, type: { $ref: '#/components/schemas/error-type' } };
  return {
    openapi: '3.1.0',
    info,
    servers: [{ url: '/', description: 'This appliance' }],
    tags: tagRows(routes),
    paths,
    components: {
      schemas: { ...set.schemas, ...(isObject(problem) && { problem: { ...problem, properties: named } }), 'error-type': errorTypes() },
      responses,
      securitySchemes: { cookie: { type: 'apiKey', in: 'cookie', name: 'session' }, bearer: { type: 'http', scheme: 'bearer' } },
    },
  };
}
