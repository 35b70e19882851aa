/** The OpenAPI description is complete: it has everything that a client generator or a person needs of each route. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lintFromString, loadConfig } from '@redocly/openapi-core';
import t from 'tap';
import { pluginErrorCodes } from '../../core/contract/index.js';
import { errorRows, isErrorCode } from '../../core/primitives/error-rows.js';
import { isBody } from '../support/api-client.js';
import { at, DescribedAnswers } from '../support/described-answers.js';
import { exampleOf, startIn } from './harness.js';

const top = new URL('../../../', import.meta.url);
const h = await startIn({
  updates: {
    status: async () => exampleOf('update-status'),
    receive: async () => exampleOf('update-bundle'),
    discard: async () => undefined,
    install: async () => undefined,
    restart: async () => undefined,
  },
  ssh: { get: async () => ({ enabled: false, authorized_keys: [] }), set: async () => ({ enabled: false, authorized_keys: [] }) },
});
const { json: description, text: served } = await h.ask('GET', '/api/v1/openapi.json');
await h.close();

interface Operation {
  readonly name: string;
  readonly path: string;
  readonly value: unknown;
}
const entriesOf = (value: unknown): [string, unknown][] => Object.entries(isBody(value) ? value : {});
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const operations: readonly Operation[] = entriesOf(at(description, 'paths')).flatMap(([path, methods]) =>
  entriesOf(methods).map(([method, value]) => ({ name: `${method} ${path}`, path, value })),
);

/** All values of a key, at any depth. */
function allOf(value: unknown, key: string): unknown[] {
  if (Array.isArray(value)) return value.flatMap((one) => allOf(one, key));
  return entriesOf(value).flatMap(([name, inner]) => [...(name === key ? [inner] : []), ...allOf(inner, key)]);
}

const pointed = (ref: unknown): unknown => at(description, ...String(ref).replace(/^#\//, '').split('/'));

t.test('every $ref resolves, and every schema is used', async (t) => {
  const refs = new Set(allOf(description, '$ref').map(String));
  t.ok(refs.size > 50, `${refs.size} references`);
  t.same(
    [...refs].filter((ref) => !ref.startsWith('#/') || pointed(ref) === undefined),
    [],
  );
  const names = entriesOf(at(description, 'components', 'schemas')).map(([name]) => name);
  t.same(
    names.filter((name) => !refs.has(`#/components/schemas/${name}`)),
    [],
  );
  const answers = readdirSync(new URL('schemas/answers/', top), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.json'))
    .map((path) => basename(path, '.json'));
  t.same(
    answers.filter((name) => !names.includes(name)),
    [],
    'nothing answers by these schemas',
  );
});

t.test('every operation has an id, a summary, a tag, its parameters and its body', async (t) => {
  t.ok(operations.length > 35, `${operations.length} operations`);
  const ids = operations.map(({ value }) => at(value, 'operationId'));
  t.equal(new Set(ids).size, ids.length, 'each id is there once');
  const tags = listOf(at(description, 'tags')).map((tag) => at(tag, 'name'));
  for (const { name, path, value } of operations) {
    t.match(at(value, 'operationId'), /^[a-z]+[A-Z][A-Za-z]*$/, `${name}: verb and noun`);
    t.match(at(value, 'summary'), /^[A-Z].*[^.]$/, name);
    t.ok(listOf(at(value, 'tags')).length === 1 && listOf(at(value, 'tags')).every((tag) => tags.includes(tag)), `${name}: its tag`);
    const parameters = listOf(at(value, 'parameters'));
    const inPath = parameters.filter((one) => at(one, 'in') === 'path').map((one) => `{${at(one, 'name')}}`);
    t.same(inPath, path.match(/\{\w+\}/g) ?? [], `${name}: the parameters of its path`);
    for (const one of parameters) t.match(one, { description: /^./, schema: Object, example: /^./ }, `${name}: ${at(one, 'name')}`);
    const isChange = /^(post|put) (?!.*\/(run|stop|undo|confirm|take-over|logout)$)/.test(name);
    t.equal(at(value, 'requestBody') !== undefined, isChange, `${name}: its body`);
  }
});

t.test('every answer and body has a schema and a valid example', async (t) => {
  const described = new DescribedAnswers(description);
  for (const { name, value } of operations) {
    const responses = entriesOf(at(value, 'responses'));
    const good = responses.filter(([status]) => status.startsWith('2'));
    t.equal(good.length, 1, `${name}: one good answer`);
    t.ok(at(value, 'responses', 'default'), `${name}: errors`);
    t.ok(
      responses.some(([status]) => status === '400'),
      `${name}: what a client can do wrong`,
    );
    const contents = [...responses.map(([, one]) => (isBody(one) && one.$ref ? pointed(one.$ref) : one)), at(value, 'requestBody')];
    for (const [type, media] of contents.flatMap((one) => entriesOf(at(one, 'content')))) {
      if (type === 'application/octet-stream') continue;
      const several = entriesOf(at(media, 'examples')).map(([, one]) => at(one, 'value'));
      const examples = several.length > 0 ? several : [at(media, 'example')];
      for (const example of examples) t.equal(described.fault(at(media, 'schema'), example), undefined, `${name}: ${type}`);
    }
  }
});

t.test('a linter finds no error and no warning', async (t) => {
  const config = await loadConfig({ configPath: fileURLToPath(new URL('test/api/redocly.yaml', top)) });
  const faults = async (source: string) =>
    (await lintFromString({ source, config })).map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer}`);
  t.same(await faults(served), []);
  const lacking = served.replace('"operationId":"getBackup",', '');
  t.match(await faults(lacking), [/^operation-operationId: .*backup/], 'it sees what is missing');
});

t.test('every error code has a row with a sentence that says what to do', async (t) => {
  for (const code of pluginErrorCodes) t.ok(isErrorCode(code), code);
  const types = at(description, 'components', 'schemas', 'error-type');
  t.same(
    at(types, 'enum'),
    Object.keys(errorRows).map((code) => `urn:container-backup:error:${code}`),
  );
  const page = readFileSync(new URL('docs/api.md', top), 'utf8');
  for (const [code, { status, retryable, fix }] of Object.entries(errorRows)) {
    t.match(fix, /^[A-Z].*\.$/, code);
    t.equal(
      at(types, 'x-enumDescriptions', `urn:container-backup:error:${code}`),
      `${status}${retryable ? ', may succeed later' : ''}. ${fix}`,
    );
    const line = `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${fix} |`;
    t.ok(page.includes(line), `docs/api.md: ${line}`);
  }
});
