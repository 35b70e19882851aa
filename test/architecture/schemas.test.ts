/** The service takes it for granted that its own schemas are JSON Schemas: looking costs seconds at every start of a small processor. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';

const top = new URL('../../../', import.meta.url);
const below = (folder: string) => readdirSync(new URL(folder, top), { recursive: true, encoding: 'utf8' }).map((path) => folder + path);
const files = [
  ...below('schemas/').filter((path) => path.endsWith('.json')),
  ...below('plugins/').filter((path) => path.endsWith('/options.schema.json')),
];
const schemas = new Map(files.map((path) => [path, JSON.parse(readFileSync(new URL(path, top), 'utf8'))]));

t.test('every schema of the package is one of JSON Schema 2020-12, and every word in it means something', async (t) => {
  const ajv = new Ajv2020({ strictTypes: false, strictRequired: false, formats: { 'date-time': true } });
  ajv.addKeyword({ keyword: 'x-secret', schemaType: 'boolean' });
  for (const [path, schema] of schemas) t.doesNotThrow(() => ajv.addSchema(schema, schema.$id ?? path), path);
  for (const [path, schema] of schemas) t.type(ajv.getSchema(schema.$id ?? path), 'function', `${path} compiles`);
  t.ok(schemas.size > 40, `${schemas.size} schemas`);
  const names = files.filter((path) => path.startsWith('schemas/')).map((path) => basename(path));
  t.equal(new Set(names).size, names.length, 'a name is of one schema only: they are found by it');
});

/** Run apart: the suite itself has loaded ajv. */
const opening = `
  import { Module } from 'node:module';
  import { loadPlugins } from ${JSON.stringify(new URL('../../core/plugins/index.js', import.meta.url).href)};
  const plugins = await loadPlugins(${JSON.stringify(['targets', 'runtimes'].map((kind) => new URL(`../../plugins/${kind}`, import.meta.url).pathname))}, '/nonexistent');
  const refused = ['local', 'sftp', 'lxc', 'docker'].filter((id) => {
    try { plugins.checkOptions(id, { nothing: 'of that' }); return false } catch (error) { return error.code === 'validation' }
  });
  const isLoaded = Object.keys(Module._cache).some((path) => path.endsWith('/ajv/dist/2020.js'));
  console.log(JSON.stringify({ refused, isLoaded }));
`;

t.test('no run compiles a schema of the package or loads ajv for its plugins', async (t) => {
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', opening], { encoding: 'utf8' });
  t.same(JSON.parse(output), { refused: ['local', 'sftp', 'lxc', 'docker'], isLoaded: false });
});
