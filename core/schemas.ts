/** The only file that names ajv: checks values against the package's schemas/ folder, or against a plugin's own schema. */
import { readdirSync, readFileSync } from 'node:fs';
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import type { Shapes } from '../schemas/types/index.js';

export interface Fault {
  /** JSON pointer into the value. */
  readonly pointer: string;
  readonly reason: string;
}

export class ValidationError extends Error {
  override readonly name = 'ValidationError';
  constructor(readonly errors: readonly Fault[]) {
    super(errors.map((e) => `${e.pointer || 'the value'} ${e.reason}`).join('; '));
  }
}

// The same relative place from core/ and from dist/core/.
const folder = new URL('../schemas/', import.meta.url);
/** The package's schemas: for values of clients, who are told all that is wrong, and for what lies on targets. */
const loaded = new Map<'all faults' | 'first fault', Ajv2020>();

/** That a schema is one is not looked at each time: ajv compiles the whole description of JSON Schema first, which takes a small
 *  processor seconds. `compiles` looks, once, and a test does for those of the package. */
function fresh(faults: 'all faults' | 'first fault' = 'all faults'): Ajv2020 {
  const ajv = new Ajv2020({
    allErrors: faults === 'all faults',
    verbose: true,
    useDefaults: true,
    strictTypes: false,
    strictRequired: false,
    validateSchema: false,
  });
  ajv.addKeyword({ keyword: 'x-secret', schemaType: 'boolean' });
  return ajv;
}

function record(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function packaged(faults: 'all faults' | 'first fault'): Ajv2020 {
  const before = loaded.get(faults);
  if (before !== undefined) return before;
  const ajv = fresh(faults);
  for (const name of readdirSync(folder).filter((n) => n.endsWith('.json'))) {
    ajv.addSchema(schemaText(name.slice(0, -'.json'.length)));
  }
  loaded.set(faults, ajv);
  return ajv;
}

/** A schema of the package as it is kept, for OpenAPI and forms. */
export function schemaText(name: string): Record<string, unknown> {
  const schema: unknown = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'));
  if (!record(schema)) throw new Error(`schemas/${name}.json is not an object`);
  return schema;
}

const escaped = (key: string) => key.replaceAll('~', '~0').replaceAll('/', '~1');

/** What the schema says the value is. The value itself, which may be a secret, is never told. */
function described(e: ErrorObject): string | undefined {
  const schema: unknown = e.parentSchema;
  const text = record(schema) ? schema.description : undefined;
  return typeof text === 'string' ? `must be: ${text}` : undefined;
}

/** In words for a person: where it is and what to change. */
function fault(e: ErrorObject): Fault {
  const at = (key: unknown) => `${e.instancePath}/${escaped(String(key))}`;
  const here = e.instancePath;
  switch (e.keyword) {
    case 'required':
      return { pointer: at(e.params.missingProperty), reason: 'is required' };
    case 'additionalProperties':
      return { pointer: at(e.params.additionalProperty), reason: 'is not a known key' };
    case 'false schema':
      return { pointer: here, reason: 'does not go with the other keys' };
    case 'enum':
      return { pointer: here, reason: `must be one of ${JSON.stringify(e.params.allowedValues)}` };
    case 'not':
      return { pointer: here, reason: here.endsWith('/at') ? 'takes start or time, not both' : 'must not have this value' };
    case 'pattern':
      return { pointer: here, reason: described(e) ?? 'holds a character or form that is not allowed' };
    default:
      return { pointer: here, reason: e.message ?? 'is wrong' };
  }
}

/** Fills defaults into the value. */
function apply<T>(validate: ValidateFunction<T>, value: unknown): T {
  if (validate(value)) return value;
  const errors = (validate.errors ?? []).filter((e) => e.keyword !== 'if').map(fault);
  throw new ValidationError(errors.filter((e, i) => errors.findIndex((o) => o.pointer === e.pointer && o.reason === e.reason) === i));
}

/** What has passed a schema is not changed any more. */
export type Frozen<T> = T extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Frozen<T[Key]> }
    : T;
/** The type that a schema of the package describes, defaults filled in; made from the schema itself. */
export type Shape<Name extends keyof Shapes> = Frozen<Shapes[Name]>;

function validator<Name extends keyof Shapes>(schemaName: Name, faults: 'all faults' | 'first fault'): ValidateFunction<Shape<Name>> {
  const [name, part] = schemaName.split('#');
  const id = `urn:container-backup:${name}:v1${part === undefined ? '' : `#${part}`}`;
  const validate = packaged(faults).getSchema<Shape<Name>>(id);
  if (validate === undefined) throw new Error(`no schema ${schemaName}`);
  return validate;
}

/** The value, with defaults, once it has passed schemas/<name>.json; `name#/$defs/part` takes a part of it. The caller's value
 *  stays as it is. @throws ValidationError */
export function parsed<Name extends keyof Shapes>(schemaName: Name, value: unknown): Shape<Name> {
  return apply(validator(schemaName, 'all faults'), structuredClone(value));
}

/** The same for a value that may be large and anybody's, and that only the caller holds: defaults are filled into the value itself,
 *  and only the first fault is told, since telling a fault takes more memory than making it. @throws ValidationError */
export function parsedOwn<Name extends keyof Shapes>(schemaName: Name, value: unknown): Shape<Name> {
  return apply(validator(schemaName, 'first fault'), value);
}

/** The same for a schema that isn't the package's, such as a plugin's options. @throws ValidationError */
export function checked<T>(schema: Record<string, unknown>, value: unknown): T {
  return apply(fresh().compile<T>(schema), structuredClone(value));
}

let description: Ajv2020 | undefined;

/** @throws Error when it is no JSON Schema (2020-12) that can be used */
export function compiles(schema: Record<string, unknown>): void {
  description ??= fresh();
  description.validateSchema(schema, true);
  fresh().compile(schema);
}
