/** A record in each format, written by an early version and never changed. Every later version must restore it. */
import { cp, mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { type Listing, listing, listings } from '../../fixtures/sample-container.js';
import { isBody, part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { snapshotOf } from '../../support/fidelity.js';
import { destroyLxc, lxc } from '../../support/lxc.js';
import { readManifestFile } from '../../support/manifest-file.js';
import { allIn, list } from '../bed/request-bodies.js';
import { consented, restore } from './bench.js';
import { manifestHashes, typed } from './shell-block.js';

const fixtures = fileURLToPath(new URL('../../fixtures/', import.meta.url));
const formats = (await readdir(fixtures)).filter((name) => /^format-\d+$/.test(name));
const a = await makeAppliance(t, { flags: ['--undo-hours', '0'] });
for (const format of formats) await cp(join(fixtures, format), join(a.share, format), { recursive: true });

/** Whether the numbers of blocks differ by at most 8. They depend on the file system. */
function sameBlocks(wanted: unknown, found: unknown): boolean {
  return Math.abs(Number(wanted ?? 0) - Number(found ?? 0)) <= 8;
}

function missing(wanted: unknown, found: Listing): string[] {
  const names = new Set([...Object.keys(Object(wanted)), ...Object.keys(found)]);
  return [...names].flatMap((name) => {
    const [before, now] = [part(wanted, name), found[name]];
    const keys = new Set([...Object.keys(Object(before)), ...Object.keys(now ?? {})]);
    const differ = [...keys].filter(
      (key) => part(before, key) !== now?.[key] && !(key === 'blocks' && sameBlocks(part(before, key), now?.[key])),
    );
    return differ.map((key) => `${JSON.stringify(name)}: ${key} was ${part(before, key)}, is ${now?.[key]}`);
  });
}

t.test('the samples are there and small', async (t) => {
  t.same(formats.sort(), ['format-1', 'format-2']);
  for (const format of formats) {
    const all = await Promise.all((await allIn(join(fixtures, format))).map((path) => stat(join(fixtures, format, path))));
    const sizes = all.filter((one) => one.isFile()).map(({ size }) => size);
    t.ok(sizes.reduce((sum, size) => sum + size, 0) < 400_000, format);
  }
});

for (const format of formats) {
  t.test(`${format}: every run of the sample is restored as a clone without a difference`, async (t) => {
    const expected: unknown = JSON.parse(await readFile(join(fixtures, format, 'expected.json'), 'utf8'));
    if (!isBody(expected)) throw new Error('the sample has no listing');
    t.ok(Object.keys(expected).length >= 4);
    a.alsoDestroy('copy');
    for (const [portfolio, sources] of Object.entries(expected)) {
      const location = { target: 'local', path: `/test/${format}` } as const;
      const state = await restore(a.service, await consented(a.service, { container: 'copy', type: 'lxc', portfolio, location }));
      t.match(
        state,
        { result: 0, run: portfolio.split('/')[1], conflicts: [] },
        `${portfolio} ${JSON.stringify(part(state, 'error') ?? '')}`,
      );
      const found = await listings(a.lxcPath, 'copy');
      t.same(Object.keys(found), Object.keys(Object(sources)));
      for (const [source, tree] of Object.entries(found)) t.same(missing(part(sources, source), tree), [], `${portfolio}: ${source}`);
      t.equal(await lxc('info', a.lxcPath, 'copy', '-sH'), 'RUNNING');
      await destroyLxc(a.lxcPath, 'copy');
    }
  });

  t.test(`${format}: every run of the sample is restored by hand without a difference`, async (t) => {
    const expected: unknown = JSON.parse(await readFile(join(fixtures, format, 'expected.json'), 'utf8'));
    for (const [portfolio, sources] of Object.entries(Object(expected))) {
      const [name = '', run = ''] = portfolio.split('/');
      const into = join(a.folder, format, name, run);
      await mkdir(into, { recursive: true });
      const said = await typed(join(a.share, format, `container-backup@${name}`), run, into);
      const [computed, kept] = manifestHashes(said);
      t.match(kept, /^[0-9a-f]{64}$/);
      t.equal(computed, kept, `${portfolio}: the manifest is whole`);
      t.ok(said.checks.length >= 3 && said.checks.every((line) => line.endsWith(': OK')), said.checks.join('; '));
      t.match(said.text, /# a comment that is kept\n/, 'its configuration is shown');
      for (const source of Object.keys(Object(sources))) {
        const tree = await snapshotOf(join(into, source));
        if (source !== 'data') tree.delete('');
        t.same(missing(part(sources, source), listing(tree)), [], `${portfolio}: ${source}`);
      }
    }
  });

  t.test(`${format}: the sample has every level of its sources`, async (t) => {
    for (const record of (await readdir(join(fixtures, format))).filter((name) => name.startsWith('container-backup@'))) {
      const folder = join(fixtures, format, record);
      const runs = (await readdir(folder)).filter((name) => /^\d{4}-/.test(name)).sort();
      const manifest = await readManifestFile(join(folder, runs.at(-1) ?? '', 'manifest.json'));
      t.equal(`format-${manifest.format}`, format);
      const levels = (source: string) =>
        list(manifest.archives)
          .filter((one) => part(one, 'source') === source)
          .map((one) => part(one, 'level'));
      t.same([levels('rootfs'), levels('data'), levels('bin-app.conf')], [[0, 1, 2], [0, 1, 2], [0]], record);
    }
  });
}
