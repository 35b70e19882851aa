/** Checks each answer against the service's OpenAPI description. A key that is not described, or has another type, is a fault. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);

export interface GivenAnswer {
  readonly status: number;
  readonly type: string;
  readonly json: unknown;
}

/** The part of a JSON value that the keys lead to; undefined when it is missing. */
export function at(value: unknown, ...keys: readonly string[]): unknown {
  return keys.reduce<unknown>((inner, key) => (isObject(inner) && Object.hasOwn(inner, key) ? inner[key] : undefined), value);
}

/** Closes every object of an answer (additionalProperties: false), so that a key without a description is a fault. Clients must still
 *  expect keys of later versions. A schema that sets additionalProperties keeps it, such as that of a manifest. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (!isObject(schema)) return schema;
  const inner = Object.entries(schema).map(([key, value]) => [
    key,
    ['examples', 'if', 'then', 'else', 'not', 'allOf'].includes(key) ? value : closed(value),
  ]);
  const isOpen = schema.type === 'object' && isObject(schema.properties) && schema.additionalProperties === undefined;
  return { ...Object.fromEntries(inner), ...(isOpen && { additionalProperties: false }) };
}

interface Matcher {
  readonly method: string;
  readonly path: RegExp;
  readonly parameters: number;
  readonly responses: unknown;
}

/** `{path}` matches the rest of the path, which may be empty. */
function matcherOf(template: string): RegExp {
  const pattern = template
    .replace(/\/\{path\}$/, '(?:/.*)?')
    .replace(/\{\w+\}/g, '[^/]+')
    .replaceAll('.', '\\.');
  return new RegExp(`^${pattern.replace('(?:/\\.*)?', '(?:/.*)?')}/?$`);
}

export class DescribedAnswers {
  /** Does not check the schemas themselves, which takes as long as compiling them: `api/openapi` does that. */
  readonly #ajv = new Ajv2020({
    strict: false,
    validateSchema: false,
    formats: { 'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, binary: true },
  });
  readonly #checks = new Map<string, ValidateFunction>();
  readonly #matchers: readonly Matcher[];

  /** @param description an OpenAPI document */
  constructor(description: unknown) {
    const schemas = Object.entries(at(description, 'components', 'schemas') ?? {});
    const components = { schemas: Object.fromEntries(schemas.map(([name, one]) => [name, /^manifest/.test(name) ? one : closed(one)])) };
    this.#ajv.addSchema({ $id: 'urn:container-backup:description', components });
    this.#matchers = Object.entries(at(description, 'paths') ?? {})
      .flatMap(([path, operations]) =>
        Object.entries(isObject(operations) ? operations : {}).map(([method, operation]) => ({
          method: method.toUpperCase(),
          path: matcherOf(path),
          parameters: path.split('{').length,
          responses: at(operation, 'responses'),
        })),
      )
      .sort((a, b) => a.parameters - b.parameters); // /backup/progress before /backup/{id}
  }

  /** @param path of the request, with its query
   *  @throws Error that names the request and the part without a description */
  check(method: string, path: string, answer: GivenAnswer): void {
    const schema = answer.status >= 400 ? errorSchema(answer.type) : this.#schemaOf(method, path, answer.status);
    const fault = schema === undefined ? undefined : this.fault(schema, answer.json);
    if (fault === undefined) return;
    const text = JSON.stringify(answer.json)?.slice(0, 2000);
    throw new Error(`the description does not have what ${method} ${path} answers: ${fault}: ${text}`);
  }

  /** The errors of a value by a schema of the description. */
  fault(schema: unknown, value: unknown): string | undefined {
    const validate = this.#validate(schema);
    return validate(value) ? undefined : this.#ajv.errorsText(validate.errors);
  }

  #schemaOf(method: string, path: string, status: number): unknown {
    const { pathname, searchParams } = new URL(path, 'http://appliance');
    const found = this.#matchers.find((one) => one.method === method && one.path.test(pathname));
    const media = at(found?.responses, String(status), 'content', 'application/json');
    if (found && status !== 204 && media === undefined) throw new Error(`the description has no answer ${status} to ${method} ${path}`);
    const schema = at(media, 'schema');
    const views = at(schema, 'anyOf');
    return Array.isArray(views) ? views[searchParams.get('view') === 'full' ? 1 : 0] : schema;
  }

  #validate(schema: unknown): ValidateFunction {
    const text = JSON.stringify(schema).replaceAll('"#/components/', '"urn:container-backup:description#/components/');
    const known = this.#checks.get(text) ?? this.#ajv.compile(JSON.parse(text));
    this.#checks.set(text, known);
    return known;
  }
}

/** Checks nothing of an answer without a content type: Node itself answers a request that it cannot parse. */
function errorSchema(type: string): Json | undefined {
  if (type === '') return undefined;
  return { $ref: `#/components/schemas/${type.startsWith('application/problem+json') ? 'problem' : 'error'}` };
}

/** One for all clients of a suite whose services have the same description. */
const known = new Map<string, DescribedAnswers>();

/** The description of the service at http://HOST:PORT. undefined when it serves none, or when its version describes no answers. */
export async function describedBy(address: string): Promise<DescribedAnswers | undefined> {
  const answer = await fetch(`${address}/api/v1/openapi.json`);
  const text = await answer.text();
  if (answer.status !== 200) return undefined;
  const description: unknown = JSON.parse(text);
  if (at(description, 'components', 'schemas', 'error') === undefined) return undefined;
  const described = known.get(text) ?? new DescribedAnswers(description);
  known.set(text, described);
  return described;
}
