/** The search for big files: what it finds, and that it ends where it must. */
import { link, mkdir, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { canCloneWithin, findBigFiles, lookForBigFiles, openTop } from '../../core/archive/index.js';
import { never, temporary } from '../system/hostile/archive-samples.js';

const least = 1 << 20;

async function makeFile(path: string, size = least): Promise<void> {
  await writeFile(path, '');
  await truncate(path, size);
}

async function makeTree(t: Test) {
  const folder = await temporary(t);
  const path = join(folder, 'tree');
  await mkdir(join(path, 'inner'), { recursive: true });
  for (let n = 0; n < 20; n++) await makeFile(join(path, `inner/${n}.img`), least + n);
  const search = { tree: { kind: 'folder', path, access: 'read' }, least, excludes: ['./*.skip'], list: join(folder, 'names') } as const;
  return { folder, path, search };
}

const namesOf = (files: readonly { readonly path: string }[]): string[] => files.map(({ path }) => path).toSorted();

t.test('it names regular files of one name that are not excluded, and follows no symlink', async (t) => {
  const { folder, path, search } = await makeTree(t);
  await makeFile(join(path, 'small'), least - 1);
  await makeFile(join(path, 'linked'));
  await link(join(path, 'linked'), join(path, 'linked too'));
  await makeFile(join(path, 'left.skip'));
  await makeFile(join(folder, 'outside.img'));
  await symlink(join(folder, 'outside.img'), join(path, 'to a file'));
  await symlink(folder, join(path, 'to a folder'));
  const { files, isWhole } = await lookForBigFiles(search, { most: 21 }, never); // excluded ones count until the search has ended
  t.same(namesOf(files), Array.from({ length: 20 }, (_, n) => `inner/${n}.img`).toSorted());
  t.ok(isWhole);
});

t.test('the whole tree is added up when that is asked for', async (t) => {
  const { path, search } = await makeTree(t);
  const before = await findBigFiles(search, never);
  await writeFile(join(path, '+5 small'), Buffer.alloc(100_000, 'x'));
  await writeFile(join(path, 'inner/big'), Buffer.alloc(2 << 20, 'x'));
  const after = await findBigFiles(search, never);
  t.equal(after.files.length, before.files.length + 1);
  const blocks = (await Promise.all(['+5 small', 'inner/big'].map((name) => stat(join(path, name))))).map((one) => one.blocks);
  t.equal(
    after.bytes - before.bytes,
    blocks.reduce((sum, count) => sum + count * 512, 0),
    'big files and others',
  );
});

t.test('it ends at the most files and at its end, says so, and keeps what it found', async (t) => {
  const { search } = await makeTree(t);
  const few = await lookForBigFiles(search, { most: 3 }, never);
  t.equal(few.files.length, 3);
  t.notOk(few.isWhole);
  t.same(await lookForBigFiles(search, { most: 0 }, never), { files: [], isWhole: false, bytes: 0 });
  const late = await lookForBigFiles(search, { most: 20, until: AbortSignal.abort() }, never);
  t.notOk(late.isWhole, 'no time was left');
  await t.rejects(lookForBigFiles(search, { most: 20 }, AbortSignal.abort()), { code: 'aborted' });
  const gone = { ...search, tree: { ...search.tree, path: `${search.tree.path}-gone` } };
  t.same(await lookForBigFiles(gone, { most: 20 }, never), { files: [], isWhole: false, bytes: 0 }, 'a tree that cannot be read');
});

t.test('whether a file system clones is found without touching its files', async (t) => {
  const { path } = await makeTree(t);
  await using top = await openTop(path);
  t.type(await canCloneWithin(top, never), 'boolean');
  await using proc = await openTop('/proc');
  t.equal(await canCloneWithin(proc, never), false, 'no file can be made there');
});
