/** The only file that names ajv: checks values against schemas/ or against a plugin's own schema. scripts/compile-schemas.mjs
 *  compiles the package's schemas to functions. Compiling in each run's thread took 0.1 s and 15 MiB, and loading ajv took as
 *  long. So ajv is loaded only for the schema of an added plugin. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import type { Ajv2020, ErrorObject, ValidateFunction } from 'ajv/dist/2020.js';
import type { Shapes } from '../schemas/types/index.js';
import { CodedError } from './contract/index.js';

export interface Fault {
  /** JSON pointer into the value. */
  readonly pointer: string;
  readonly reason: string;
}

/** A ServiceError is a refusal that its catchers know how to handle; a value that has not the form of its schema is none. */
export class ValidationError extends CodedError<'validation'> {
  constructor(readonly errors: readonly Fault[]) {
    super('validation', errors.map((e) => `${e.pointer || 'the value'} ${e.reason}`).join('; '));
  }
}

const folder = new URL('../schemas/', import.meta.url);
const load = createRequire(import.meta.url);

/** All faults for values of clients, who can fix all at once; the first one for what lies on targets. */
export type Faults = 'all faults' | 'first fault';
/** The functions that scripts/compile-schemas.mjs makes. */
type Compiled = { readonly [Name in keyof Shapes]: ValidateFunction<Shape<Name>> };
/** By optionsKey of the schema. */
type CompiledOptions = Readonly<Record<string, ValidateFunction<unknown> | undefined>>;

/** Does not check the schema itself: for that ajv compiles the whole description of JSON Schema, seconds on a small processor.
 *  `compiles` checks a plugin's schema once; a test checks those of the package. */
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

/** The key of the compiled function for a plugin's options. */
export const optionsKey = (schema: Record<string, unknown>): string =>
  `of_${createHash('sha256').update(JSON.stringify(schema)).digest('hex')}`;

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

let files: ReadonlyMap<string, string> | undefined;

/** Paths of the package's schemas below schemas/, by the names of the files. */
function schemaFiles(): ReadonlyMap<string, string> {
  files ??= new Map(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.json'))
      .map((path) => [basename(path, '.json'), path]),
  );
  return files;
}

/** A schema of the package as stored, for OpenAPI and forms; nothing parses by those of answers. */
export function schemaText(name: string): Record<string, unknown> {
  const schema: unknown = JSON.parse(readFileSync(new URL(schemaFiles().get(name) ?? `${name}.json`, folder), 'utf8'));
  if (!isFields(schema)) throw new Error(`the schema ${name} is not an object`);
  return schema;
}

const escapeKey = (key: string) => key.replaceAll('~', '~0').replaceAll('/', '~1');

/** What the value must be, from the schema's description. Never contains the value itself, which may be a secret. */
function describe(e: ErrorObject): string | undefined {
  const schema: unknown = e.parentSchema;
  const text = isFields(schema) ? schema.description : undefined;
  return typeof text === 'string' ? `must be: ${text}` : undefined;
}

/** A fault in words for a person: where it is and what to change. */
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

/** Validates the value and fills defaults into it. @throws ValidationError */
function apply<T>(validate: ValidateFunction<T>, value: unknown): T {
  if (validate(value)) return value;
  const errors = (validate.errors ?? []).filter((e) => e.keyword !== 'if').map(fault);
  throw new ValidationError(errors.filter((e, i) => errors.findIndex((o) => o.pointer === e.pointer && o.reason === e.reason) === i));
}

/** A value that has passed a schema is never changed. */
export type Frozen<T> = T extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Frozen<T[Key]> }
    : T;
/** The type that a schema of the package describes, defaults filled in; made from the schema itself. */
export type Shape<Name extends keyof Shapes> = Frozen<Shapes[Name]>;

// require caches the module.
function validator<Name extends keyof Shapes>(name: Name, faults: Faults): Compiled[Name] {
  const compiled: Compiled = load(`../schemas/compiled/${faults.replace(' ', '-')}.cjs`);
  return compiled[name];
}

function optionsValidator(schema: Record<string, unknown>): ValidateFunction<unknown> | undefined {
  const compiled: CompiledOptions = load('../schemas/compiled/options.cjs');
  return compiled[optionsKey(schema)];
}

/** Checks a value against the schema of a name, or a part of it (`name#/$defs/part`). @returns a copy with defaults
 *  @throws ValidationError */
export function parse<Name extends keyof Shapes>(schemaName: Name, value: unknown): Shape<Name> {
  return apply(validator(schemaName, 'all faults'), structuredClone(value));
}

/** As parse, for a large, untrusted value that only the caller has: fills defaults into the value itself, and reports only the
 *  first fault, since reporting a fault takes more memory than making one. @throws ValidationError */
export function parseOwn<Name extends keyof Shapes>(schemaName: Name, value: unknown): Shape<Name> {
  return apply(validator(schemaName, 'first fault'), value);
}

/** As parse, for a schema outside the package, such as a plugin's options. @throws ValidationError */
export function check(schema: Record<string, unknown>, value: unknown): unknown {
  return apply(optionsValidator(schema) ?? schemaCompiler().compile(schema), structuredClone(value));
}

let description: Ajv2020 | undefined;

/** @throws Error when the schema is no usable JSON Schema (2020-12) */
export function compiles(schema: Record<string, unknown>): void {
  if (optionsValidator(schema)) return;
  description ??= schemaCompiler();
  description.validateSchema(schema, true);
  schemaCompiler().compile(schema);
}
