/** The service takes it for granted that its own schemas are JSON Schemas: looking costs seconds at every start of a small processor. */
import { readdirSync, readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';

const top = new URL('../../../', import.meta.url);
const folders = [
  'schemas/',
  ...['targets/', 'runtimes/'].flatMap((kind) => readdirSync(new URL(`plugins/${kind}`, top)).map((name) => `plugins/${kind}${name}/`)),
];
const files = folders.flatMap((folder) =>
  readdirSync(new URL(folder, top))
    .filter((name) => (folder === 'schemas/' ? name.endsWith('.json') : name === 'options.schema.json'))
    .map((name) => folder + name),
);
const schemas = new Map(files.map((path) => [path, JSON.parse(readFileSync(new URL(path, top), 'utf8'))]));

t.test('every schema of the package is one of JSON Schema 2020-12, and every word in it means something', async (t) => {
  const ajv = new Ajv2020({ strictTypes: false, strictRequired: false });
  ajv.addKeyword({ keyword: 'x-secret', schemaType: 'boolean' });
  for (const [path, schema] of schemas) t.doesNotThrow(() => ajv.addSchema(schema, schema.$id ?? path), path);
  for (const [path, schema] of schemas) t.type(ajv.getSchema(schema.$id ?? path), 'function', `${path} compiles`);
  t.ok(schemas.size > 12, `${schemas.size} schemas`);
});
