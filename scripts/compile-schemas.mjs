// Schemas to functions, dist/schemas/compiled/*.cjs: those of the package by their names, all faults and first fault, and those of its
// plugins' options. Run after tsc: how they are compiled says core/schemas.ts.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import standalone from 'ajv/dist/standalone/index.js';
import { optionsKey, schemaCompiler } from '../dist/core/schemas.js';

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

const names = readdirSync(new URL('schemas/', repository)).filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
for (const faults of ['all faults', 'first fault']) {
  const ajv = schemaCompiler(faults);
  for (const name of names) ajv.addSchema(read(`schemas/${name}.json`));
  const references = names.map((name) => [name, `urn:container-backup:${name}:v1`]);
  references.push(['backup#/$defs/state', 'urn:container-backup:backup:v1#/$defs/state']);
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
