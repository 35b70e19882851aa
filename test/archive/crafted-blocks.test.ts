/** Archives of blocks that somebody made to do harm: each is refused with a code, and nothing outside the tree changes. */
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { member } from '../../core/archive/blocks/tar/write-tar.js';
import { type AppliedFiles, applyBlocks, checkBlocks, openTop } from '../../core/archive/index.js';
import { PluginError } from '../../core/contract/index.js';
import { differences, snapshotOf } from '../support/fidelity.js';
import { never, temporary } from '../system/hostile/archive-samples.js';

const sum = Buffer.from(`${'0'.repeat(32)} 131072\n`);
const empty = Buffer.alloc(0);
const end = Buffer.alloc(1024);

async function makeBed(t: Test) {
  const folder = await temporary(t);
  const [tree, outside] = [join(folder, 'tree'), join(folder, 'outside')];
  for (const path of [tree, outside, join(tree, 'folder')]) await mkdir(path);
  await writeFile(join(outside, 'file'), 'outside');
  await writeFile(join(tree, 'file'), 'inside');
  await symlink(outside, join(tree, 'link'));
  await symlink(join(outside, 'file'), join(tree, 'file-link'));
  const apply = async (parts: readonly Buffer[]): Promise<string> => {
    await using top = await openTop(tree);
    const files: AppliedFiles = new Map();
    const plan = { tree: { kind: 'folder', path: tree, access: 'write' }, top, files, name: 'x', signal: never } as const;
    async function* given() {
      yield* parts;
    }
    try {
      await applyBlocks({ ...plan, workFolder: join(folder, 'work') }, given());
      await checkBlocks(top, files, 'x', never);
      return 'applied';
    } catch (error) {
      return error instanceof PluginError ? error.code : String(error);
    }
  };
  return { apply, tree, outside };
}

const cases: readonly (readonly [what: string, code: string, parts: readonly (readonly Buffer[])[]])[] = [
  ['a path with ..', 'damaged', [member('data/../outside/file/new', empty)]],
  ['an absolute path', 'damaged', [member('data//etc/x/new', empty)]],
  ['a path through a symlink', 'damaged', [member('data/link/file/new', empty)]],
  ['blocks of a symlink', 'damaged', [member('data/file-link/0000000000000000', Buffer.from('evil'))]],
  ['blocks of a folder', 'damaged', [member('data/folder/0000000000000000', Buffer.from('evil'))]],
  ['blocks of a file that is not there', 'damaged', [member('data/none/0000000000000000', Buffer.from('evil'))]],
  ['an offset that is none', 'damaged', [member('data/file/-1', Buffer.from('evil'))]],
  ['an offset beyond any file', 'no_space', [member('data/file/9007199254740991', Buffer.from('evil'))]],
  ['holes that are none', 'damaged', [member('data/file/holes', Buffer.from('x y\n'))]],
  ['a hole that ends before it begins', 'damaged', [member('data/file/holes', Buffer.from('9 3\n'))]],
  ['a list of holes without end', 'damaged', [member('data/file/holes', Buffer.alloc(9 << 20, '0 1\n'))]],
  ['a sum that is none', 'damaged', [member('data/file/sum', Buffer.from('x'))]],
  ['a sum without end', 'damaged', [member('data/file/sum', Buffer.alloc(1 << 20, 'a'))]],
  ['attributes that are missing', 'failed', [member('data/file/new', empty), member('data/file/sum', sum)]],
  ['attributes outside', 'failed', [member('data/file/new', empty), member('data/file/sum', sum), member('../outside/file', empty)]],
];

for (const [what, code, parts] of cases) {
  t.test(`${what}: refused as ${code}`, async (t) => {
    const { apply, outside } = await makeBed(t);
    const before = await snapshotOf(outside);
    t.equal(await apply([...parts.flat(), end]), code);
    t.same(differences(before, await snapshotOf(outside)), [], 'nothing outside changed');
  });
}

t.test('a cut archive, and one of random bytes, are damaged', async (t) => {
  const { apply } = await makeBed(t);
  const whole = Buffer.concat([...member('data/file/0000000000000000', Buffer.alloc(5000, 1)), ...member('data/file/sum', sum), end]);
  for (const length of [0, 100, 512, 3000, whole.length - 1024]) t.equal(await apply([whole.subarray(0, length)]), 'damaged', `${length}`);
  t.equal(await apply([Buffer.alloc(4096, 0xff)]), 'damaged', 'ones');
});

t.test('a file that two levels brought must have its hash', async (t) => {
  const { apply, tree } = await makeBed(t);
  const twice = [...member('data/file/new', empty), ...member('data/file/sum', sum), ...member('meta/file', empty)];
  const again = [...member('data/file/0000000000000000', Buffer.from('x')), ...member('data/file/sum', sum), ...member('meta/file', empty)];
  t.equal(await apply([...twice, ...again, end]), 'damaged');
  t.equal(await readFile(join(tree, 'file'), 'utf8'), '');
});
