// Types of what passes a schema, defaults filled in: schemas/*.json to schemas/types/index.d.ts. References are inlined
// and conditions left out, since they narrow values and not shapes.
import { mkdirSync, writeFileSync } from 'node:fs';
import { compile } from 'json-schema-to-typescript';
import { parsedNames, schemas } from './schema-names.mjs';

const folder = new URL('../schemas/', import.meta.url);
const conditions = ['if', 'then', 'else', 'allOf', 'not', 'propertyNames', '$schema', '$id', '$defs', 'default', 'title'];

function referred(ref, own) {
  const [name, pointer = ''] = ref.split('#');
  const found = name === '' ? own : /^urn:container-backup:([a-z-]+):v1$/.exec(name)?.[1];
  const value = pointer.split('/').slice(1).reduce((at, key) => at?.[key], schemas.get(found));
  if (value === undefined) throw new Error(`schemas/${own}.json refers to ${ref}, which is not there`);
  return shape(value, found);
}

/** The schema as the value looks once it has passed. */
function shape(schema, own) {
  if (Array.isArray(schema)) return schema.map((one) => shape(one, own));
  if (typeof schema !== 'object' || schema === null) return schema;
  if (schema.$ref !== undefined) return referred(schema.$ref, own);
  const kept = Object.entries(schema).filter(([key]) => !conditions.includes(key) || key === 'propertyNames');
  const result = Object.fromEntries(kept.map(([key, value]) => [key, key === 'enum' ? value : shape(value, own)]));
  if (schema.properties === undefined) return result;
  result.properties = Object.fromEntries(Object.entries(schema.properties).map(([key, value]) => [key, shape(value, own)]));
  const filled = Object.entries(schema.properties).filter(([, value]) => value.default !== undefined);
  return { ...result, required: [...new Set([...(schema.required ?? []), ...filled.map(([key]) => key)])] };
}

const pascal = (name) => name.replace(/(^|[^A-Za-z]+)([a-z])/g, (_, _between, letter) => letter.toUpperCase());
const options = { bannerComment: '', additionalProperties: false, ignoreMinAndMaxItems: true, format: false };
const texts = ['// Made by scripts/schema-types.mjs from schemas/*.json. Changes are lost.\n'];
const names = new Map(parsedNames.map((name) => [name, pascal(name.replace('#/$defs/', '-'))]));
for (const [name, type] of names) {
  const [own] = name.split('#');
  texts.push(await compile(name.includes('#') ? referred(`#${name.split('#')[1]}`, own) : shape(schemas.get(own), own), type, options));
}
texts.push(`/** By the name that \`parsed\` takes. */\nexport interface Shapes {\n${[...names].map(([name, type]) => `  '${name}': ${type};`).join('\n')}\n}\n`);
mkdirSync(new URL('types/', folder), { recursive: true });
writeFileSync(new URL('types/index.d.ts', folder), texts.join('\n'));
