// Schemas to functions, dist/schemas/compiled/*.cjs: those of the package by their names, all faults and first fault, and those of its
// plugins' options. Run after tsc: how they are compiled says core/schemas.ts.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import standalone from 'ajv/dist/standalone/index.js';
import { optionsKey, schemaCompiler } from '../dist/core/schemas.js';
import { parsedNames, schemas } from './schema-names.mjs';

const repository = new URL('../', import.meta.url);
const read = (path) => JSON.parse(readFileSync(new URL(path, repository), 'utf8'));
const output = new URL('dist/schemas/compiled/', repository);
mkdirSync(output, { recursive: true });

/** A CommonJS module, which can be loaded when it is first needed; an export's name cannot be any text. */
function write(file, ajv, references) {
  const entries = Object.entries(references).map(([key, reference], index) => [key, `export${index}`, reference]);
  const code = standalone.default(ajv, Object.fromEntries(entries.map(([, name, reference]) => [name, reference])));
  const exported = entries.map(([key, name]) => `${JSON.stringify(key)}: exports.${name}`);
  writeFileSync(new URL(file, output), `${code};\nmodule.exports = { ${exported.join(', ')} };\n`);
}

for (const faults of ['all faults', 'first fault']) {
  const ajv = schemaCompiler(faults);
  for (const schema of schemas.values()) ajv.addSchema(schema);
  const references = parsedNames.map((name) => [name, `urn:container-backup:${name.replace(/(#|$)/, ':v1$1')}`]);
  write(`${faults.replace(' ', '-')}.cjs`, ajv, Object.fromEntries(references));
}

const options = ['targets', 'runtimes']
  .flatMap((kind) => readdirSync(new URL(`plugins/${kind}/`, repository)).map((id) => `plugins/${kind}/${id}/options.schema.json`))
  .map(read);
const ajv = schemaCompiler();
const references = options.map((schema) => {
  const id = optionsKey(schema);
  ajv.addSchema(schema, id);
  return [id, id];
});
write('options.cjs', ajv, Object.fromEntries(references));
