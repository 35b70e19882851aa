// The package's schemas, and the parts of them that are parsed by themselves, by the names that `parsed` takes.
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';

const folder = new URL('../schemas/', import.meta.url);

/** By the name of its file, whatever folder it is in. Those of answers are not among them: nothing parses by them. */
export const schemas = new Map(
  readdirSync(folder, { recursive: true })
    .filter((path) => path.endsWith('.json') && !path.startsWith('answers/'))
    .sort()
    .map((path) => [basename(path, '.json'), JSON.parse(readFileSync(new URL(path, folder), 'utf8'))]),
);

/** Parts that are parsed by themselves, or whose types are used by themselves. */
const alsoParsed = new Set(['state', 'request', 'found', 'remote', 'environment']);

/** `name`, or `name#/$defs/part`. */
export const parsedNames = [...schemas].flatMap(([name, schema]) => [
  name,
  ...Object.keys(schema.$defs ?? {}).flatMap((part) => (alsoParsed.has(part) ? [`${name}#/$defs/${part}`] : [])),
]);
