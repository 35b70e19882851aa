// The package's schemas, and the parts of them that are parsed by themselves, by the names that `parsed` takes.
import { readdirSync, readFileSync } from 'node:fs';

const folder = new URL('../schemas/', import.meta.url);

/** By the name of its file. */
export const schemas = new Map(
  readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .map((name) => [name.slice(0, -'.json'.length), JSON.parse(readFileSync(new URL(name, folder), 'utf8'))]),
);

/** Parts that are parsed by themselves, or whose types are used by themselves. */
const alsoParsed = new Set(['state', 'request', 'found', 'remote', 'environment']);

/** `name`, or `name#/$defs/part`. */
export const parsedNames = [...schemas].flatMap(([name, schema]) => [
  name,
  ...Object.keys(schema.$defs ?? {}).flatMap((part) => (alsoParsed.has(part) ? [`${name}#/$defs/${part}`] : [])),
]);
