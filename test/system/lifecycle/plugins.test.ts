import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { startProcess } from '../bed/service-process.js';

interface Plugin {
  /** plugin.json as text, or its differences from a good one. */
  readonly manifest?: string | Readonly<Record<string, unknown>>;
  readonly schema?: string;
  readonly code?: string;
}

const goodSchema = JSON.stringify({ type: 'object', additionalProperties: false, properties: {} });
/** Imports the error class from the contract, which shows that a plugin outside the package can. */
const goodCode = `
import { PluginError } from 'container-backup/contract';
const none = () => { throw new PluginError('not_found', 'there is no such container'); };
const runtime = {
  supports: { pause: false, images: false },
  version: async () => 'one',
  async *list() { yield { id: 'only', name: 'only', image: '', state: 'stopped', type: 'good' }; },
  describe: none, sources: none, image: none, pause: none, draft: none,
  preview: async () => ({ conflicts: [], grants: [], places: [], warnings: [] }),
  resume: async () => undefined, undo: async () => undefined, dropUndo: async () => undefined, recover: async () => undefined,
  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]: async () => undefined,
};
export default { open: async () => runtime };
`;

async function writePlugin(folder: string, id: string, { manifest = {}, schema = goodSchema, code = goodCode }: Plugin): Promise<void> {
  await mkdir(folder, { recursive: true });
  const good = { id, kind: 'runtime', contract: 1, version: '1.2.3', main: 'index.js', title: `The plugin ${id}`, capabilities: ['pause'] };
  const text = typeof manifest === 'string' ? manifest : JSON.stringify({ ...good, ...manifest });
  await writeFile(join(folder, 'plugin.json'), text);
  await writeFile(join(folder, 'options.schema.json'), schema);
  await writeFile(join(folder, 'index.js'), code);
}

/** The report of a plugin by its folder's name. */
async function reports(a: Appliance): Promise<ReadonlyMap<string, unknown>> {
  const all = await a.service.call('GET', '/plugin/');
  if (!Array.isArray(all)) throw new Error('GET /plugin/ answered no list');
  return new Map(all.map((one: unknown) => [String(part(one, 'folder')).split('/').at(-1) ?? '', one]));
}

const pluginsOf = (a: Appliance): string => join(a.stateFolder, 'plugins');

/** Faults that the service reports before it runs any code. The names of the folders sort in the order of the checks. */
const refused: Readonly<Record<string, Plugin & { readonly why: RegExp }>> = {
  'bad-json': { manifest: '{"id": "bad-json",', why: /JSON/ },
  'no-object': { manifest: '["id"]', why: /must be object/ },
  'too-long': { manifest: `{"id": "too-long"${' '.repeat(70_000)}}`, why: /larger than 65536 bytes/ },
  'other-contract': { manifest: { contract: 2 }, why: /contract must be equal to constant/ },
  'unknown-kind': { manifest: { kind: 'theme' }, why: /kind must be one of \["target","runtime"\]/ },
  'unknown-key': { manifest: { scripts: 'rm -rf' }, why: /scripts is not a known key/ },
  'bad-id': { manifest: { id: '../lxc' }, why: /id holds a character or form/ },
  'main-above': { manifest: { main: '../good/index.js' }, why: /main lies outside the plugin/ },
  'main-absolute': { manifest: { main: '/dev/null/x.js' }, why: /ENOTDIR|ENOENT|outside/ },
  'main-linked': { manifest: { main: 'link.js' }, why: /main lies outside the plugin/ },
  'main-absent': { manifest: { main: 'other.js' }, why: /ENOENT.*other\.js/ },
  'schema-no-json': { schema: 'type: object', why: /JSON/ },
  'schema-no-object': { schema: '[]', why: /options\.schema\.json is not an object/ },
  'schema-invalid': { schema: '{"type": "nothing"}', why: /schema is invalid/ },
  'schema-open-reference': { schema: '{"$ref": "https://example.org/other.json"}', why: /can't resolve reference/ },
  'takes-built-in': { manifest: { id: 'lxc' }, why: /id lxc is taken by .*\/runtimes\/lxc; choose another/ },
  'takes-other': { manifest: { id: 'good' }, why: /id good is taken by .*\/good; choose another/ },
};

/** Plugins with a good description and wrong code. */
const failing: Readonly<Record<string, { readonly code: string; readonly why: RegExp }>> = {
  'import-throws': { code: 'throw new Error("not on this machine");', why: /cannot be imported: .*not on this machine/ },
  'no-syntax': { code: 'export default {{', why: /cannot be imported: SyntaxError/ },
  'no-such-import': { code: "import 'no-such-package'; export default {};", why: /cannot be imported: .*no-such-package/ },
  'no-default': { code: 'export const open = async () => ({});', why: /no default export with an open function/ },
  'no-open': { code: 'export default { start: async () => ({}) };', why: /no default export with an open function/ },
  'open-throws': { code: 'export default { open: async () => { throw new Error("no licence"); } };', why: /no licence/ },
  'opens-nothing': { code: 'export default { open: async () => undefined };', why: /is no runtime of contract 1: it lacks describe, / },
  'opens-half': {
    code: 'export default { open: async () => ({ supports: { pause: true }, list() {} }) };',
    why: /is no runtime of contract 1: it lacks describe, draft, .*undo, version, \[Symbol.asyncDispose\], supports\.images \(boolean\)$/,
  },
  ...Object.fromEntries(
    ['describe', 'draft', 'dropUndo', 'image', 'list', 'pause', 'preview', 'recover', 'resume', 'sources', 'undo', 'version'].map(
      (method) => [
        `without-${method.toLowerCase()}`,
        {
          code: goodCode.replace('export default', `runtime.${method} = undefined;\nexport default`),
          why: new RegExp(`is no runtime of contract 1: it lacks ${method}$`),
        },
      ],
    ),
  ),
};

async function applianceWith(t: Test, plugins: Readonly<Record<string, Plugin>>, flags: readonly string[] = []): Promise<Appliance> {
  const a = await makeAppliance(t, { flags });
  for (const [name, plugin] of Object.entries(plugins)) await writePlugin(join(pluginsOf(a), name), name, plugin);
  return a;
}

t.test('a third-party plugin and its containers are listed', async (t) => {
  const a = await applianceWith(t, { good: {} });
  t.notOk((await reports(a)).has('good'), 'not before the service looked again');
  await a.restart();
  t.match((await reports(a)).get('good'), {
    id: 'good',
    kind: 'runtime',
    version: '1.2.3',
    title: 'The plugin good',
    capabilities: ['pause'],
    ok: true,
  });
  t.same(await a.service.call('GET', '/container/?type=good'), [{ id: 'only', name: 'only', image: '', state: 'stopped', type: 'good' }]);
  t.match(part(await a.service.call('GET', '/system/'), 'version'), { good_version: 'one' });
});

t.test('runtime_options gives an added runtime its options, and a wrong one refuses the plugin with its pointer', async (t) => {
  const schema = JSON.stringify({ type: 'object', required: ['shelf'], properties: { shelf: { type: 'integer' } } });
  const code = goodCode
    .replace("'one'", 'String(shelf)')
    .replace('const none', 'let shelf;\nconst none')
    .replace('async () => runtime', 'async ({ options }) => { shelf = options.shelf; return runtime; }');
  const options = { attic: { shelf: 3 }, cellar: { shelf: 'low' }, lxc: { path: '/nowhere' } };
  const plugins = { attic: { schema, code }, cellar: { schema, code } };
  const a = await applianceWith(t, plugins, ['--runtime-options', JSON.stringify(options)]);
  await a.restart();
  t.match(part(await a.service.call('GET', '/system/'), 'version'), { attic_version: '3' });
  t.match((await reports(a)).get('cellar'), { ok: false, problem: /shelf must be integer/ });
  await a.lxc('one');
  t.match(await a.service.call('GET', '/container/?type=lxc'), [{ id: 'one' }], 'those of a built-in one have keys of their own');
});

t.test('a plugin with a wrong description is refused with the reason, and the others work', async (t) => {
  const a = await applianceWith(t, { good: {}, ...refused });
  await writeFile(join(pluginsOf(a), 'good', 'other.js'), goodCode);
  await symlink('../good/other.js', join(pluginsOf(a), 'main-linked', 'link.js'));
  await mkdir(join(pluginsOf(a), 'no-description'));
  await writeFile(join(pluginsOf(a), 'a-file'), 'no plugin');
  await symlink('nowhere', join(pluginsOf(a), 'a-link'));
  await a.restart();
  const told = await reports(a);
  for (const [name, { why }] of Object.entries(refused)) {
    t.match(told.get(name), { ok: false, problem: why }, name);
  }
  t.match(told.get('good'), { ok: true }, 'the good one is');
  for (const built of ['local', 'lxc', 'docker']) t.match(told.get(built), { ok: true }, `the built-in ${built} is`);
  for (const other of ['no-description', 'a-file', 'a-link', 'node_modules']) t.notOk(told.has(other), `${other} is none`);
  await a.lxc('one');
  t.match(await a.service.call('GET', '/container/?type=lxc'), [{ id: 'one', state: 'running' }], 'the built-in lxc keeps its place');
});

t.test('a plugin whose code fails is reported with the reason, and the others work', async (t) => {
  const a = await applianceWith(t, { good: {}, ...failing });
  await a.restart();
  const told = await reports(a);
  for (const [name, { why }] of Object.entries(failing)) {
    t.match(told.get(name), { ok: false, problem: why }, name);
    t.same(await a.service.call('GET', `/container/?type=${name}`), [], `${name} has no containers`);
  }
  t.match(await a.service.call('GET', '/container/?type=good'), [{ id: 'only' }], 'the good one works');
});

t.test('a job of a plugin whose code fails ends with the reason', async (t) => {
  const a = await applianceWith(t, { 'import-throws': failing['import-throws'] ?? {} });
  await a.restart();
  const body = {
    job_name: 'never',
    container_id: 'only',
    type: 'import-throws',
    dest: { target: 'local', path: '/test/x' },
    at: notSoon(),
  };
  const { status, json } = await a.service.ask('POST', '/backup', body);
  if (status !== 200) {
    t.match(JSON.stringify(json), /import-throws|must be one of/, 'refused at once');
    return;
  }
  const id = Number(part(json, 'id'));
  await a.service.call('PUT', `/backup/${id}/run`);
  const { result, error } = await a.service.settled('backup', id);
  t.equal(result, -1);
  t.match(error, { code: 'failed', message: /import-throws cannot be imported: .*not on this machine/ });
  t.same(
    (await readdir(a.share)).filter((name) => !name.startsWith('.')),
    [],
    'and nothing is on the target',
  );
});

/** A runtime of one container with a root. It writes the names of the calls into a file. */
const countingCode = `
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
const open = async ({ stateFolder }) => {
  const [root, draft] = [stateFolder + '/root', stateFolder + '/draft'];
  for (const folder of [root, draft]) mkdirSync(folder, { recursive: true });
  writeFileSync(root + '/file', 'of the root');
  const none = { conflicts: [], grants: [], places: [], warnings: [] };
  const native = { format: 'none', text: '' };
  const neutral = { arch: 'none', autostart: false, image: '', network: [], resource: {}, volume: [], left_out: [], native };
  const calls = {
    version: async () => 'one',
    async *list() { yield { id: 'only', name: 'only', image: '', state: 'stopped', type: 'counting' }; },
    describe: async () => ({ ...neutral, name: 'only', type: 'counting', state: 'stopped' }),
    sources: async () => [{ name: 'rootfs', origin: 'engine', kind: 'folder', path: root, excludes: [] }],
    image: async () => undefined, pause: async () => undefined, resume: async () => undefined,
    preview: async () => none,
    draft: async () => ({
      needsImage: false, loadImage: async () => undefined, folders: async () => new Map([['rootfs', draft]]),
      commit: async () => ({ conflicts: [], places: [], warnings: [] }), discard: async () => undefined,
    }),
    undo: async () => undefined, dropUndo: async () => undefined, recover: async () => undefined,
  };
  const told = Object.entries(calls).map(([name, call]) => [name, (...args) => {
    appendFileSync(stateFolder + '/calls', name + ' ');
    return call(...args);
  }]);
  return { supports: { pause: false, images: false }, ...Object.fromEntries(told), [Symbol.asyncDispose]: async () => undefined };
};
export default { open };
`;

t.test('a plan calls preview of a runtime once, and so does a restore before its draft', async (t) => {
  const a = await applianceWith(t, { counting: { code: countingCode } });
  await a.restart();
  const calls = join(a.stateFolder, 'plugin-state/counting/calls');
  const common = { container_id: 'only', type: 'counting' };
  const dest = { target: 'local', path: '/test/x' };
  const backup = await a.service.create('backup', { ...common, job_name: 'counted', dest, at: notSoon() });
  await a.service.call('PUT', `/backup/${backup}/run`);
  t.match(await a.service.settled('backup', backup), { result: 0 });
  const body = { ...common, job_name: 'back', src: { ...dest, portfolio: 'counted' } };
  await rm(calls);
  t.match(await a.service.call('POST', '/restore/plan', body), { action: 'replace', conflicts: [], grants: [], places: [] });
  t.equal(await readFile(calls, 'utf8'), 'list preview ');
  await rm(calls);
  t.match(await a.service.settled('restore', await a.service.create('restore', body)), { result: 0 });
  t.equal(await readFile(calls, 'utf8'), 'recover list preview draft ');
});

const hangingTarget = `
const target = {
  supports: { range: true, freeSpace: true, atomicReplace: true, connections: 1 },
  stat: () => new Promise(() => undefined),
  put: async () => ({ bytes: 0 }), get: async () => undefined, async *list() {}, remove: async () => undefined, space: async () => undefined,
  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]: async () => undefined,
};
export default { open: async () => target };
`;

t.test('a target whose plugin never answers, or never opens it, is reported as stalled', async (t) => {
  const a = await makeAppliance(t, { flags: ['--stall-seconds', '1'] });
  const closed = hangingTarget.replace('async () => target', '() => new Promise(() => undefined)');
  const codes = { hanging: hangingTarget, closed };
  for (const [id, code] of Object.entries(codes))
    await writePlugin(join(pluginsOf(a), id), id, { manifest: { kind: 'target', capabilities: [] }, code });
  await a.restart();
  for (const type of Object.keys(codes)) {
    const target = { name: `nas of ${type}`, ipaddr: '127.0.0.1:1', username: 'u', password: 'p', type };
    const id = Number(part(await a.service.call('POST', '/target', target), 'id'));
    const began = Date.now();
    const problems = [{ code: 'stalled', message: /nas/ }];
    t.match(await a.service.call('GET', `/target/${id}/check`), { writable: false, problems }, type);
    t.equal((await a.service.ask('GET', `/target/${id}/dirs/`)).status, 503);
    t.ok(Date.now() - began < 15_000, `after ${Date.now() - began} ms`);
  }
});

t.test('a target without a method is refused before a job uses it, and optional exports may be absent', async (t) => {
  const a = await makeAppliance(t);
  const target = { name: 'nas', ipaddr: '127.0.0.1:1', username: 'u', password: 'p' };
  const half = hangingTarget.replace('put: async () => ({ bytes: 0 }),', '').replace('connections: 1', 'connections: "many"');
  const empty = hangingTarget.replace('new Promise(() => undefined)', 'undefined'); // no pin, no detection, no server
  for (const [id, code] of Object.entries({ half, empty })) {
    await writePlugin(join(pluginsOf(a), id), id, { manifest: { kind: 'target', capabilities: [] }, code });
  }
  await a.restart();
  const asked = async (type: string) => {
    const id = Number(part(await a.service.call('POST', '/target', { ...target, name: type, type }), 'id'));
    return a.service.call('GET', `/target/${id}/check`);
  };
  t.match(await asked('half'), {
    problems: [{ message: /plugin half opened is no target .*: it lacks put, supports\.connections \(number\)/ }],
  });
  t.notMatch(JSON.stringify(await asked('empty')), /lacks/);
});

t.test('the start logs every refused or failing plugin once', async (t) => {
  const a = await applianceWith(t, { 'bad-json': refused['bad-json'] ?? {}, 'import-throws': failing['import-throws'] ?? {} });
  await a.service[Symbol.asyncDispose]();
  await using service = startProcess(['serve', '--state', a.stateFolder, '--listen', '127.0.0.1:0', '--lxc-path', a.lxcPath]);
  await service.announces(/listening on /);
  for (const name of ['bad-json', 'import-throws']) {
    const lines = service.said.stderr.split('\n').filter((line) => line.includes(name));
    t.equal(lines.length, 1, name);
    t.match(lines[0], / warn /, name);
  }
});
