import { stat, writeFile } from 'node:fs/promises';
import t from 'tap';
import { Estimate, sizeOfFile } from '../../core/jobs/run/passes/estimate.js';
import { type Base, chooseBase } from '../../core/jobs/run/record/choose-base.js';
import { selectSources } from '../../core/jobs/run/selection.js';
import { archive, folderSource, manifest, snapshot, temporary } from '../system/hostile/archive-samples.js';

const base = { ...archive('image.tar.zst', { bytes: 1000, flags: [] }), snapshot: snapshot('image.snar.zst') } satisfies Base;
const source = folderSource('/r', { name: 'rootfs', origin: 'engine' });
const rootfs = { name: 'rootfs', origin: 'engine', kind: 'folder', file_system: 'ext2/ext3 1' } as const;
const level = (bytes: number, n = 1) => archive(`run/rootfs.${n}.tar.zst`, { level: n, bytes });
const newest = (...archives: Parameters<typeof level>[]) =>
  manifest('2026-11-02_00-00-00', { sources: [rootfs], archives: [base, ...archives.map((one) => level(...one))] });

t.test('a level builds on the base of the newest run', async (t) => {
  t.same(chooseBase(undefined, rootfs, 0.5), {}, 'the first run makes one');
  t.same(chooseBase(newest(), rootfs, 0.5), { base });
  t.same(chooseBase(newest([100]), rootfs, 0.5), { base, expected: 100 }, 'and is expected to be as large as the last');
});

t.test('a new base is made when the differential passes its part of the base', async (t) => {
  t.same(chooseBase(newest([500]), rootfs, 0.5), { base, expected: 500 }, 'at half of it, not yet');
  t.same(chooseBase(newest([501]), rootfs, 0.5), { expected: 1000 });
  t.same(chooseBase(newest([100], [900, 2]), rootfs, 0.5), { base, expected: 100 }, 'a paused tail does not count');
  t.same(chooseBase(newest([1]), rootfs, 0), { expected: 1000 });
  t.same(chooseBase(newest([999]), rootfs, 1), { base, expected: 999 });
});

t.test('a base that cannot be used is replaced by a new one', async (t) => {
  const { snapshot: _, ...bare } = base;
  t.same(chooseBase(manifest('r', { sources: [rootfs], archives: [bare] }), rootfs, 0.5), { expected: 1000 }, 'without its snapshot');
  const { flags: __, ...unseen } = base;
  t.same(
    chooseBase(manifest('r', { sources: [rootfs], archives: [unseen] }), rootfs, 0.5),
    { expected: 1000 },
    'nobody looked at its inode flags',
  );
  t.same(chooseBase(newest(), { ...rootfs, name: 'data' }, 0.5), {}, 'a volume that is new');
  t.same(chooseBase(newest(), { ...rootfs, kind: 'file' }, 0.5), { expected: 1000 }, 'a file has no levels');
  const file = manifest('r', { archives: [base], sources: [{ name: 'rootfs', origin: 'host', kind: 'file' }] });
  t.same(chooseBase(file, rootfs, 0.5), { expected: 1000 }, 'a folder that was a file');
  t.same(chooseBase(manifest('r', { archives: [level(5)] }), rootfs, 0.5), {}, 'a level without a base');
});

t.test('no level is built on a base with other excludes', async (t) => {
  const excluding = (excludes?: readonly string[]) =>
    manifest('r', { archives: [base], sources: [{ ...rootfs, ...(excludes && { excludes: [...excludes] }) }] });
  const now = (excludes: readonly string[]) => ({ ...rootfs, excludes: [...excludes] });
  t.same(chooseBase(excluding(['./a']), now(['./a']), 0.5), { base });
  t.same(chooseBase(excluding(['./a', './b']), now(['./b', './a']), 0.5), { base }, 'in whatever order');
  t.same(chooseBase(excluding(['./a']), now([]), 0.5), { expected: 1000 }, 'one taken back');
  t.same(chooseBase(excluding(), now(['./a']), 0.5), { expected: 1000 }, 'one added');
  t.same(chooseBase(excluding(['./a']), now(['./b']), 0.5), { expected: 1000 }, 'another');
});

t.test('no level is built on a base of another file system', async (t) => {
  const on = (file_system: string) => ({ ...rootfs, file_system });
  t.same(chooseBase(newest(), on('ext2/ext3 2'), 0.5), { expected: 1000 }, 'another disk at the same place');
  const { file_system: _, ...unknown } = rootfs;
  t.same(chooseBase(manifest('r', { archives: [base], sources: [unknown] }), rootfs, 0.5), { expected: 1000 }, 'nobody looked');
});

t.test('an exclude leaves out a volume or a part of a source, and left_out lists it', async (t) => {
  const description = { ...manifest('r').container, left_out: [{ path: '/sock', reason: 'a socket' }] };
  const sources = [source, folderSource('/d'), folderSource('/h', { name: 'host', origin: 'host' })];
  t.same(selectSources(description, sources, []), { sources, left_out: description.left_out });
  const chosen = selectSources(description, sources, ['volume:data', 'rootfs:/var/cache/*', 'rootfs:tmp', 'host:///deep//x']);
  t.same(chosen.sources, [
    { ...source, excludes: ['./var/cache/*', './tmp'] },
    { ...sources[2], excludes: ['./deep//x'] },
  ]);
  t.same(
    chosen.left_out.map(({ path }) => path),
    ['/sock', '/d', 'rootfs:/var/cache/*', 'rootfs:tmp', 'host:///deep//x'],
  );
  t.ok(chosen.left_out.every(({ reason }) => reason !== ''));
  const own = [{ ...source, excludes: ['./proc'] }];
  t.same(selectSources(description, own, ['rootfs:/a']).sources[0]?.excludes, ['./proc', './a'], 'beside what the engine excludes');
});

t.test('an exclude that names nothing is refused', async (t) => {
  const { container } = manifest('r');
  for (const one of ['volume:absent', 'absent:/x', 'volume:rootfs', 'rootfs', 'volume:', ''])
    t.throws(
      () => selectSources(container, [source, folderSource('/d')], [one]),
      { code: 'invalid', message: /its sources are: rootfs, data/ },
      one,
    );
  t.throws(
    () => selectSources(container, [folderSource('/d')], ['volume:data', 'data:/x']),
    { code: 'invalid' },
    'a part of what is out already',
  );
});

t.test('progress never goes backwards and never reaches 100 before the end', async (t) => {
  for (let seed = 1; seed <= 200; seed++) {
    let random = seed;
    const next = (below: number) => {
      random = (random * 48_271) % 2_147_483_647;
      return random % below;
    };
    const told: number[] = [];
    const estimate = new Estimate((percent) => told.push(percent));
    const parts = Array.from({ length: 1 + next(4) }, (_, index) => ({
      name: `part-${index}`,
      size: next(1000),
      done: 0,
      late: next(2) === 0,
    }));
    for (const { name, size, late } of parts) estimate.expect(name, late ? undefined : size);
    for (let step = 0; step < 60; step++) {
      const part = parts[next(parts.length)];
      if (!part) continue;
      if (part.late && next(4) === 0) estimate.expect(part.name, part.size);
      part.done += next(200); // more than was expected, in the end
      estimate.did(part.name, part.done);
    }
    const wrong = told.filter((percent, index) => percent < (told[index - 1] ?? 0) || percent > 99 || !Number.isInteger(percent));
    if (wrong.length > 0) t.fail(`seed ${seed}: ${told.join()}`);
  }
  t.pass('200 runs of random parts');
});

t.test('progress is not reported before all sizes are known', async (t) => {
  const told: number[] = [];
  const estimate = new Estimate((percent) => told.push(percent));
  estimate.expect('a', 100);
  estimate.expect('b', undefined);
  estimate.did('a', 50);
  t.same(told, []);
  estimate.expectUnlessKnown('a', 1000);
  estimate.expectUnlessKnown('b', 100);
  estimate.did('a', 60);
  estimate.did('b', 400);
  t.same(told, [30, 80]);
});

t.test('the size of a single file is what it takes on the disk', async (t) => {
  const file = `${await temporary(t)}/file`;
  await writeFile(file, Buffer.alloc(1_000_000, 'x'));
  t.equal(await sizeOfFile(file), (await stat(file)).blocks * 512);
  t.equal(await sizeOfFile(`${file}.absent`), undefined);
});
