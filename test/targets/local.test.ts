import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { Entry, Target } from '../../core/contract/index.js';
import { partName } from '../../plugins/shared/paths.js';
import local from '../../plugins/targets/local/index.js';
import { hasMarker, markerName, markShare } from '../../plugins/targets/local/marker.js';
import { targetConformance } from '../conformance/index.js';
import { entries, never, read, refused, store, supply } from '../conformance/target/support.js';

const run = promisify(execFile);

const openAt = (root: string, base = ''): Promise<Target> =>
  local.open({ log: () => undefined, signal: never(), stateFolder: root, options: { share: 'test', root, base } });

async function newRoot(t: Pick<Test, 'teardown'>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'local-target-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await markShare(root);
  return root;
}

/** A share on a small file system in memory (tmpfs). */
async function mounted(t: Pick<Test, 'teardown'>, size: string): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'local-mount-'));
  t.teardown(async () => {
    await run('umount', ['-l', root]).catch(() => undefined);
    await rm(root, { recursive: true, force: true });
  });
  await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', root]);
  await markShare(root);
  return root;
}

const suiteRoot = await newRoot(t);
targetConformance({ name: 'local', open: () => openAt(suiteRoot, 'some/base'), openFull: async () => openAt(await mounted(t, '8m')) });

t.test('the conformance suite leaves no unfinished upload', async (t) => {
  const left = await readdir(suiteRoot, { recursive: true });
  t.same(
    left.filter((path) => path.endsWith('.part')),
    [],
  );
});

t.test('a share without its marker is not mounted', async (t) => {
  const root = await newRoot(t);
  t.ok(await hasMarker(root));
  await markShare(root); // a second time does no harm
  const target = await openAt(root);
  await store(target, 'a', 'a');
  t.same(
    (await entries(target, '')).map(({ name }) => name),
    ['a'],
    'the marker is not listed',
  );
  await rename(join(root, markerName), join(root, 'away'));
  await refused(t, openAt(root), ['unavailable'], 'open');
  await refused(t, store(target, 'b', 'b'), ['unavailable'], 'put of an open target');
  await refused(t, entries(target, ''), ['unavailable'], 'list: a lost share must not look empty');
  await refused(t, target.space(), ['unavailable'], 'space');
  t.notOk((await readdir(root)).includes('b'), 'nothing was written');
  await symlink('away', join(root, markerName));
  t.notOk(await hasMarker(root), 'a link is no marker');
  await refused(t, openAt(join(root, 'nowhere')), ['unavailable'], 'no root');
});

t.test('a share on a case-insensitive file system reports caseSensitive false', async (t) => {
  const root = await newRoot(t);
  t.equal((await openAt(root)).supports.names?.caseSensitive, true);
  await writeFile(join(root, markerName.toUpperCase()), ''); // a file system that ignores case finds every file by such a name, too
  t.equal((await openAt(root)).supports.names?.caseSensitive, false);
});

t.test('the marker and the names of uploads are refused', async (t) => {
  const target = await openAt(await newRoot(t));
  await refused(t, target.remove(markerName), ['invalid'], 'the marker');
  await refused(t, store(target, partName(), 'x'), ['invalid'], 'a part');
});

t.test('links never lead out of the share', async (t) => {
  const root = await newRoot(t);
  const outside = await newRoot(t);
  await writeFile(join(outside, 'secret'), 'secret');
  const target = await openAt(root);
  await mkdir(join(root, 'inside'));
  await symlink(outside, join(root, 'out'));
  await symlink(join(outside, 'secret'), join(root, 'leaf'));
  await symlink('inside', join(root, 'in'));
  await symlink('nowhere', join(root, 'dangling'));
  await refused(t, store(target, 'out/x', 'x'), ['invalid', 'denied'], 'put');
  await refused(t, store(target, 'out/new/x', 'x'), ['invalid', 'denied'], 'put in a new folder');
  await refused(t, store(target, 'dangling/x', 'x'), ['invalid'], 'put below a dangling link');
  await refused(t, target.get('out/secret', { signal: never() }), ['invalid', 'denied'], 'get');
  await refused(t, target.get('leaf', { signal: never() }), ['invalid', 'denied'], 'get of a link');
  await refused(t, entries(target, 'out'), ['invalid', 'denied'], 'list');
  await refused(t, target.remove('out/secret'), ['invalid', 'denied'], 'remove');
  await store(target, 'in/x', 'x');
  t.equal(await readFile(join(root, 'inside/x'), 'utf8'), 'x', 'a link that stays inside is followed');
  await store(target, 'leaf', 'new', true);
  await symlink(outside, join(root, 'inside/out'));
  await target.remove('inside');
  await target.remove('out');
  t.same((await readdir(outside)).sort(), [markerName, 'secret'].sort(), 'the outside is as it was');
  t.equal(await readFile(join(outside, 'secret'), 'utf8'), 'secret');
});

t.test('a FIFO and a device are refused or replaced, and nothing hangs', async (t) => {
  const root = await newRoot(t);
  const target = await openAt(root);
  await run('mkfifo', [join(root, 'fifo')]);
  await run('mknod', [join(root, 'device'), 'c', '1', '5']);
  for (const name of ['fifo', 'device']) {
    await refused(t, target.get(name, { signal: never() }).then(read), ['invalid'], `get ${name}`);
    await refused(t, store(target, name, 'x'), ['exists'], `put ${name}`);
    await store(target, name, 'x', true);
    t.equal(String(await read(await target.get(name, { signal: never() }))), 'x', `${name} is replaced, not written to`);
  }
});

t.test('a read-only share refuses writes and allows reads', async (t) => {
  const root = await mounted(t, '8m');
  await using target = await openAt(root);
  await store(target, 'a', 'a');
  await run('mount', ['-o', 'remount,ro', root]);
  await refused(t, store(target, 'b', 'b'), ['read_only'], 'put');
  await refused(t, store(target, 'new/b', 'b'), ['read_only'], 'put in a new folder');
  await refused(t, target.remove('a'), ['read_only'], 'remove');
  t.equal(String(await read(await target.get('a', { signal: never() }))), 'a', 'it can be read');
});

t.test('an upload of a dead process is listed on request and can be removed', async (t) => {
  const root = await newRoot(t);
  const target = await openAt(root);
  const part = partName();
  await writeFile(join(root, part), 'part');
  t.same(await entries(target, ''), [], 'a reader sees nothing');
  const found: Entry[] = [];
  for await (const entry of target.list('', { unfinished: true })) found.push(entry);
  t.same(found, [{ name: part, folder: false, size: 4, unfinished: true }]);
  await target.remove(part);
  t.same(await readdir(root), [markerName]);
});

t.test('a failed put removes the folders that it made', async (t) => {
  const root = await newRoot(t);
  const target = await openAt(root);
  await mkdir(join(root, 'there'));
  await refused(t, target.put('there/a/b/c', supply(10, { end: 'fail' }).stream, { signal: never() }), ['failed'], 'put');
  t.same(await readdir(join(root, 'there')), []);
  const abort = new AbortController();
  const stalled = target.put('there/d', supply(10, { end: 'stall', at: () => setImmediate(() => abort.abort()) }).stream, abort);
  await refused(t, stalled, ['aborted'], 'aborted put');
  t.same(await readdir(join(root, 'there')), [], 'nothing hidden stays either');
});
