import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { extractLevel, type LevelPlan, Meter, packLevel } from '../../core/archive/index.js';
import type { Source } from '../../core/contract/index.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { differences, snapshotOf } from '../support/fidelity.js';
import { changeTree, makeNastyTree } from '../support/nasty-tree.js';
import { changeTricks, makeTricks, ofTrick, renamedLinks, tricks } from '../system/fidelity/level-pitfalls.js';
import { changeTreeAgain } from '../system/fidelity/tree-changes.js';
import { archive, folderSource, never, temporary } from '../system/hostile/archive-samples.js';

interface Kept {
  readonly bytes: Buffer;
  readonly entry: ReturnType<typeof archive>;
}

type Wish = Partial<LevelPlan> & Pick<LevelPlan, 'source' | 'snapshot'>;

/** Packs a level to its end. Its reference is now unless told otherwise. */
async function packed(wish: Wish, signal = never): Promise<Kept> {
  const plan = { compression: 'none', reference: Date.now(), looks: true, ...wish } as const;
  const { stream, report, searched } = await packLevel(plan, signal, () => undefined);
  const meter = new Meter();
  const chunks: Buffer[] = [];
  stream.once('error', (error) => meter.destroy(error));
  for await (const chunk of stream.pipe(meter)) chunks.push(chunk);
  const { bytes: total } = report;
  const { entries } = await searched;
  const outside = report.outside_links && { outside_links: report.outside_links };
  const stored = { ...outside, stored_bytes: meter.bytes, sha256: meter.sha256, bytes: total, entries, compression: plan.compression };
  return { bytes: Buffer.concat(chunks), entry: archive('x.tar', stored) };
}

const extract = ({ bytes, entry }: Kept, kind: Source['kind'], folder: string): Promise<void> =>
  extractLevel(entry, kind, folder, Readable.from([bytes]), never);

async function levelFolders(t: Test): Promise<{ source: string; target: string; snar: (level: number) => string }> {
  const folder = await temporary(t);
  const [source, target] = [join(folder, 'source/volume'), join(folder, 'target')];
  for (const one of [source, target]) await mkdir(one, { recursive: true });
  return { source, target, snar: (level) => join(folder, `snar-${level}`) };
}

for (const compression of ['none', 'zstd'] as const) {
  t.test(`a nasty tree comes back over four levels, ${compression}`, async (t) => {
    const { source, target, snar } = await levelFolders(t);
    const levels: Kept[] = [];
    const level = async (since?: string) => {
      const wish = { source: folderSource(source), snapshot: snar(levels.length), compression };
      levels.push(await packed({ ...wish, ...(since && { since }) }));
    };
    await makeNastyTree(join(source, 'nasty'));
    await sleep(1300); // a level looks back a second: what is fresh would be in it anyway
    await level();
    await changeTree(join(source, 'nasty'));
    await level(snar(0));
    await changeTreeAgain(join(source, 'nasty'));
    await level(snar(1));
    await level(snar(2));
    for (const one of levels) await extract(one, 'folder', target);
    t.same(differences(await snapshotOf(source), await snapshotOf(target)), []);
    t.ok(
      levels.slice(1).every(({ entry }) => entry.bytes < (levels[0]?.entry.bytes ?? 0) / 2),
      'levels are small',
    );
    t.equal(levels[0]?.entry.entries, (await snapshotOf(target)).size + (levels[0]?.entry.entries ?? 0) - (await snapshotOf(source)).size);
  });
}

t.test('every change between two levels comes back', async (t) => {
  const { source, target, snar } = await levelFolders(t);
  await makeTricks(join(source, 'tricks'));
  await sleep(1300);
  const base = await packed({ source: folderSource(source), snapshot: snar(0) });
  await changeTricks(join(source, 'tricks'));
  const level = await packed({ source: folderSource(source), snapshot: snar(1), since: snar(0) });
  await extract(base, 'folder', target);
  await extract(level, 'folder', target);
  const found = differences(await snapshotOf(source), await snapshotOf(target));
  for (const [index, { title }] of tricks.entries()) t.same(ofTrick(found, index), [], title);
  t.same(found, [], 'and all else');
});

t.test('a level that lacks some hard links of a file says so', async (t) => {
  const { source, snar } = await levelFolders(t);
  await makeTricks(source, [renamedLinks]);
  await sleep(1300);
  const base = await packed({ source: folderSource(source), snapshot: snar(0) });
  t.equal(base.entry.outside_links, undefined);
  await writeFile(join(source, 'new'), '');
  const harmless = await packed({ source: folderSource(source), snapshot: snar(1), since: snar(0) });
  t.equal(harmless.entry.outside_links, undefined);
  await changeTricks(source, [renamedLinks]);
  const level = await packed({ source: folderSource(source), snapshot: snar(2), since: snar(0) });
  t.equal(level.entry.outside_links, true);
});

t.test('a level 0 ignores an existing snapshot file', async (t) => {
  const { source, target, snar } = await levelFolders(t);
  await writeFile(join(source, 'file'), 'old');
  await sleep(1300);
  await packed({ source: folderSource(source), snapshot: snar(0) });
  await extract(await packed({ source: folderSource(source), snapshot: snar(0) }), 'folder', target);
  t.same(await readdir(target), ['file']);
});

t.test('changes after the reference are in the next level, however late tar starts', async (t) => {
  const { source, target, snar } = await levelFolders(t);
  const reference = Date.now();
  await sleep(1300);
  await writeFile(join(source, 'between'), 'the sync and the start of tar');
  const base = await packed({ source: folderSource(source), snapshot: snar(0), reference });
  const level = await packed({ source: folderSource(source), snapshot: snar(1), since: snar(0) });
  await extract(level, 'folder', target);
  t.same(await readdir(target), ['between']);
  t.ok(base.entry.entries > 0);
});

t.test('a single file is packed and extracted', async (t) => {
  const { source, target, snar } = await levelFolders(t);
  const file = join(source, '-odd "name"');
  await writeFile(file, 'one file');
  await childOutput('setfattr', ['-n', 'user.a', '-v', 'b', '--', file]);
  const before = (await snapshotOf(source)).get('-odd "name"');
  const one = await packed({ source: folderSource(file, { kind: 'file' }), snapshot: snar(0) });
  await extract(one, 'file', target);
  t.same([one.entry.entries, await readdir(target)], [1, ['-odd "name"']]);
  t.same((await snapshotOf(target)).get('-odd "name"'), before);
});

t.test('excluded files are in no level', async (t) => {
  const { source, target, snar } = await levelFolders(t);
  for (const name of ['cache/a', 'cache/deep/b', 'sub/cache/c', 'x.tmp', 'sub/y.tmp', 'kept'])
    await childOutput('install', ['-D', '/dev/null', join(source, name)]);
  await extract(
    await packed({ source: folderSource(source, { excludes: ['./cache/*', './*.tmp'] }), snapshot: snar(0) }),
    'folder',
    target,
  );
  const names = [...(await snapshotOf(target)).keys()];
  t.same(names, ['', 'cache', 'kept', 'sub', 'sub/cache', 'sub/cache/c'], 'anchored at the source, a star goes through folders');
});
