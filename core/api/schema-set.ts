/** Collects the schemas of the API description: those that operations refer to and, in turn, those that these refer to, each by one
 *  name. */
import { schemaText } from '../schemas.js';

type Schema = Readonly<Record<string, unknown>>;

export const isObject = (value: unknown): value is Schema => typeof value === 'object' && value !== null && !Array.isArray(value);

// These hold values, not schemas, so a $ref in them is no reference.
const values = ['examples', 'default', 'enum', 'const'];

export class SchemaSet {
  readonly schemas: Record<string, unknown> = {};

  /** Adds a schema. @returns a reference to it */
  whole(name: string): Schema {
    return this.#add(name, () => this.#rewrite(dropOwnNames(schemaText(name)), name));
  }

  /** As whole, for a body that holds only the changed keys. */
  partOf(name: string, description: string): Schema {
    return this.#add(`${name}-changes`, () => {
      const { required: _, properties, title, ...rest } = dropOwnNames(schemaText(name));
      const keys = Object.entries(isObject(properties) ? properties : {}).map(([key, value]) => [key, dropDefault(value)]);
      return this.#rewrite({ ...rest, title: `${title}Changes`, description, properties: Object.fromEntries(keys) }, name);
    });
  }

  #add(name: string, make: () => unknown): Schema {
    if (!Object.hasOwn(this.schemas, name)) {
      this.schemas[name] = {}; // before the schema is made, which may refer to itself
      this.schemas[name] = make();
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  #rewrite(value: unknown, own: string): unknown {
    if (Array.isArray(value)) return value.map((item) => this.#rewrite(item, own));
    if (!isObject(value)) return value;
    const entries = Object.entries(value).map(([key, inner]) => {
      if (key === '$ref' && typeof inner === 'string') return [key, this.#refer(inner, own).$ref];
      return [key, values.includes(key) ? inner : this.#rewrite(inner, own)];
    });
    return Object.fromEntries(entries);
  }

  /** Resolves `#/$defs/x`, or `urn:container-backup:<name>:v1` with or without such a part. @throws Error for any other */
  #refer(ref: string, own: string): Schema {
    const [, other, kind, part] = /^(?:urn:container-backup:([a-z-]+):v1)?(?:#\/(\$defs|properties)\/(\w+))?$/.exec(ref) ?? [];
    const name = other ?? own;
    if (kind === undefined || part === undefined) {
      if (other === undefined) throw new Error(`the schema ${own} refers to ${ref}, which is not understood`);
      return this.whole(name);
    }
    const parts = schemaText(name)[kind];
    const found = isObject(parts) && Object.hasOwn(parts, part) ? parts[part] : undefined;
    if (!isObject(found)) throw new Error(`the schema ${own} refers to ${ref}, which is not there`);
    // Follow a property that is only a reference: its definition may have the same name.
    if (typeof found.$ref === 'string' && Object.keys(found).length === 1) return this.#refer(found.$ref, name);
    return this.#add(`${name}.${part}`, () => this.#rewrite(found, name));
  }
}

function dropOwnNames({ $schema: _schema, $id: _id, $defs: _defs, ...rest }: Schema): Schema {
  return rest;
}

function dropDefault(value: unknown): unknown {
  if (!isObject(value)) return value;
  const { default: _, ...rest } = value;
  return rest;
}
