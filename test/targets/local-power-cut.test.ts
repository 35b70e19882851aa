/** A power cut loses nothing that the local target or the service's own files reported as stored. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Target } from '../../core/contract/index.js';
import { durableFile } from '../../core/primitives/durable.js';
import local from '../../plugins/targets/local/index.js';
import { markShare } from '../../plugins/targets/local/marker.js';
import { never, pattern, read, supply } from '../conformance/target/support.js';
import { type CutFileSystem, cutFileSystem } from '../support/power-cut.js';

const openAt = (root: string): Promise<Target> =>
  local.open({ log: () => undefined, signal: never(), stateFolder: root, options: { share: 'test', root } });

async function disk(t: Test): Promise<CutFileSystem> {
  const folder = await mkdtemp(join(tmpdir(), 'power-cut-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return cutFileSystem(t, folder);
}

t.test('a power cut loses a file without fsync, so the other checks can fail', async (t) => {
  const { folder, cut } = await disk(t);
  await writeFile(join(folder, 'lost'), 'nobody synced it');
  await cut();
  t.notOk((await readdir(folder)).includes('lost'));
});

t.test('a resolved put is complete after a power cut, with the folders that it made', async (t) => {
  const { folder, cut } = await disk(t);
  const root = join(folder, 'share');
  await mkdir(root);
  await markShare(root);
  for (const [path, size] of [
    ['file', 5],
    ['deep/er/file', (1 << 20) + 3],
    ['deep/er/other', 0],
  ] as const) {
    {
      await using target = await openAt(root);
      await target.put(path, supply(size).stream, { signal: never() });
    }
    await cut();
    await using target = await openAt(root);
    t.ok((await read(await target.get(path, { signal: never() }))).equals(pattern(size)), path);
  }
});

t.test('a power cut leaves the old file before a replace resolves, and the new one after it', async (t) => {
  const { folder, cut } = await disk(t);
  const root = join(folder, 'share');
  await mkdir(root);
  await markShare(root);
  for (const size of [10, 20, 30]) {
    {
      await using target = await openAt(root);
      await target.put('file', supply(size).stream, { signal: never(), replace: true });
    }
    await cut();
    t.ok((await readFile(join(root, 'file'))).equals(pattern(size)), `${size} bytes`);
  }
  await using target = await openAt(root);
  const abort = new AbortController();
  const half = supply(8 << 20, { end: 'stall' });
  const going = target.put('file', half.stream, { signal: abort.signal, replace: true }).catch((error: unknown) => error);
  while (half.given() < 8 << 20) await new Promise((resolve) => setTimeout(resolve, 5));
  await cut(() => {
    abort.abort();
    return going;
  });
  t.ok((await readFile(join(root, 'file'))).equals(pattern(30)), 'a put in the middle leaves the old one');
});

t.test('a durable write of the service survives a power cut', async (t) => {
  const { folder, cut } = await disk(t);
  for (const text of ['first', 'second']) {
    await durableFile(join(folder, 'journal.json'), text);
    await cut();
    t.equal(await readFile(join(folder, 'journal.json'), 'utf8'), text);
  }
});
