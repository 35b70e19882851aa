import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Target } from '../../core/contract/index.js';
import { loadPlugins } from '../../core/plugins/index.js';
import { never } from '../conformance/target/support.js';

/** Opens a target whose plugin says so of what it supports, as a plugin's author would write it. */
async function openSaying(t: Test, supports: string): Promise<Target> {
  const folder = await mkdtemp(join(tmpdir(), 'supports-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const plugin = join(folder, 'plugins/attic');
  await mkdir(plugin, { recursive: true });
  const manifest = { id: 'attic', kind: 'target', contract: 1, version: '0.1.0', main: 'index.mjs', title: 'A shelf', capabilities: [] };
  await writeFile(join(plugin, 'plugin.json'), JSON.stringify(manifest));
  await writeFile(join(plugin, 'options.schema.json'), '{"type":"object"}');
  const methods = ['put', 'get', 'stat', 'list', 'remove', 'space'].map((name) => `${name}: async () => undefined`).join(', ');
  const dispose = `[Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]: async () => undefined`;
  const code = `export default { open: async () => ({ supports: ${supports}, ${methods}, ${dispose} }) };`;
  await writeFile(join(plugin, 'index.mjs'), code);
  const plugins = await loadPlugins([join(folder, 'plugins')], folder);
  return plugins.openTarget('attic', {}, { signal: never(), log: () => undefined });
}

const four = 'range: true, freeSpace: false, atomicReplace: true, connections: 1';

t.test('what a target supports is frozen by whoever opens it, the rules for names too', async (t) => {
  const names = { refused: '*', refusedAtEnd: '.', caseSensitive: true, longest: 100 };
  const { supports } = await openSaying(t, `{ ${four}, names: ${JSON.stringify(names)} }`);
  t.same(supports.names, names);
  t.ok(Object.isFrozen(supports));
  t.ok(Object.isFrozen(supports.names));
});

t.test('a target that was written before there were rules for names is opened', async (t) => {
  t.same((await openSaying(t, `{ ${four} }`)).supports, { range: true, freeSpace: false, atomicReplace: true, connections: 1 });
});

t.test('rules for names that are there in part are refused, each by its name', async (t) => {
  await t.rejects(openSaying(t, `{ ${four}, names: { refused: '*', longest: '255' } }`), {
    code: 'failed',
    message:
      /lacks supports\.names\.caseSensitive \(boolean\), supports\.names\.longest \(number\), supports\.names\.refusedAtEnd \(string\)$/,
  });
  await t.rejects(openSaying(t, `{ ${four}, names: 'any' }`), { message: /lacks supports\.names\.caseSensitive/ });
});
