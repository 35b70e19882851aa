/** The only file that names ajv: checks values against the package's schemas/ folder, or against a plugin's own schema. What the
 *  package brings is compiled to functions by scripts/compile-schemas.mjs. Each run's thread would compile it again: that took 0.1 s
 *  and 15 MiB, and to load ajv itself took as long. So ajv is loaded only for the schema of a plugin that was added. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Ajv2020, ErrorObject, ValidateFunction } from 'ajv/dist/2020.js';
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

const folder = new URL('../schemas/', import.meta.url);
const load = createRequire(import.meta.url);

/** For values of clients, who are told all that is wrong, and for what lies on targets. */
export type Faults = 'all faults' | 'first fault';
/** What scripts/compile-schemas.mjs makes for each. */
type Compiled = { readonly [Name in keyof Shapes]: ValidateFunction<Shape<Name>> };
/** By the schema itself, as optionsKey has it. */
type CompiledOptions = Readonly<Record<string, ValidateFunction<unknown> | undefined>>;

/** That a schema is one is not looked at each time: ajv compiles the whole description of JSON Schema first, which takes a small
 *  processor seconds. `compiles` looks, once, and a test does for those of the package. */
export function schemaCompiler(faults: Faults = 'all faults'): Ajv2020 {
  const module: typeof import('ajv/dist/2020.js') = load('ajv/dist/2020.js');
  const ajv = new module.Ajv2020({
    allErrors: faults === 'all faults',
    verbose: true,
    useDefaults: true,
    strictTypes: false,
    strictRequired: false,
    validateSchema: false,
    code: { source: true },
  });
  ajv.addKeyword({ keyword: 'x-secret', schemaType: 'boolean' });
  return ajv;
}

/** Under which the compiled function for a plugin's options is found. */
export const optionsKey = (schema: Record<string, unknown>): string =>
  `of_${createHash('sha256').update(JSON.stringify(schema)).digest('hex')}`;

function record(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A schema of the package as it is kept, for OpenAPI and forms. */
export function schemaText(name: string): Record<string, unknown> {
  const schema: unknown = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'));
  if (!record(schema)) throw new Error(`schemas/${name}.json is not an object`);
  return schema;
}

const escapeKey = (key: string) => key.replaceAll('~', '~0').replaceAll('/', '~1');

/** What the schema says the value is. The value itself, which may be a secret, is never told. */
function describe(e: ErrorObject): string | undefined {
  const schema: unknown = e.parentSchema;
  const text = record(schema) ? schema.description : undefined;
  return typeof text === 'string' ? `must be: ${text}` : undefined;
}

/** In words for a person: where it is and what to change. */
function fault(e: ErrorObject): Fault {
  const at = (key: unknown) => `${e.instancePath}/${escapeKey(String(key))}`;
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
      return { pointer: here, reason: describe(e) ?? 'holds a character or form that is not allowed' };
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

// A module is loaded once, and from then on kept.
function validator<Name extends keyof Shapes>(name: Name, faults: Faults): Compiled[Name] {
  const compiled: Compiled = load(`../schemas/compiled/${faults.replace(' ', '-')}.cjs`);
  return compiled[name];
}

function optionsValidator(schema: Record<string, unknown>): ValidateFunction<unknown> | undefined {
  const compiled: CompiledOptions = load('../schemas/compiled/options.cjs');
  return compiled[optionsKey(schema)];
}

/** The value, with defaults, once it has passed schemas/<name>.json; `name#/$defs/part` takes a part of it. The caller's value
 *  stays as it is. @throws ValidationError */
export function parse<Name extends keyof Shapes>(schemaName: Name, value: unknown): Shape<Name> {
  return apply(validator(schemaName, 'all faults'), structuredClone(value));
}

/** The same for a value that may be large and anybody's, and that only the caller holds: defaults are filled into the value itself,
 *  and only the first fault is told, since telling a fault takes more memory than making it. @throws ValidationError */
export function parseOwn<Name extends keyof Shapes>(schemaName: Name, value: unknown): Shape<Name> {
  return apply(validator(schemaName, 'first fault'), value);
}

/** The same for a schema that isn't the package's, such as a plugin's options. @throws ValidationError */
export function check(schema: Record<string, unknown>, value: unknown): unknown {
  return apply(optionsValidator(schema) ?? schemaCompiler().compile(schema), structuredClone(value));
}

let description: Ajv2020 | undefined;

/** @throws Error when it is no JSON Schema (2020-12) that can be used */
export function compiles(schema: Record<string, unknown>): void {
  if (optionsValidator(schema)) return;
  description ??= schemaCompiler();
  description.validateSchema(schema, true);
  schemaCompiler().compile(schema);
}
