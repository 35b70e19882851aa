import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { extractLevel, type LevelPlan, packLevel } from '../../core/archive/index.js';
import type { Source } from '../../core/contract/index.js';
import { startChild } from '../../plugins/shared/primitives/child.js';
import { differences, snapshotOf } from '../support/fidelity.js';
import { makeNastyTree } from '../support/nasty-tree.js';
import { descendants } from '../system/bed/process-tree.js';
import { archive, codeOf, folderSource, never, temporary } from '../system/hostile/archive-samples.js';
import { type Crafted, craftedArchives, tarOf } from '../system/hostile/crafted-archives.js';
import { escapeBed, extracted, unconfined, withPath } from '../system/hostile/escape-bed.js';

const planOf = (source: Source, snapshot: string): LevelPlan => ({
  source,
  snapshot,
  compression: 'none',
  reference: Date.now(),
  looks: false,
});

async function packed(source: Source, snapshot: string, since?: string): Promise<{ readonly bytes: Buffer; readonly entries: number }> {
  const { stream, searched } = await packLevel({ ...planOf(source, snapshot), ...(since && { since }) }, never, () => undefined);
  return { bytes: await buffer(stream), entries: (await searched).entries };
}

/** The titles of those that changed something outside, and how the levels ended. */
async function escapes(t: Test): Promise<{ readonly out: string[]; readonly codes: Set<string> }> {
  const out: string[] = [];
  const codes = new Set<string>();
  for (let n = 0; n < craftedArchives('').length; n++) {
    const { tree, outside, look } = await escapeBed(t);
    const { title, levels } = craftedArchives(outside)[n] ?? { title: '', levels: [] };
    const before = look();
    for (const level of levels) codes.add(await extracted(tarOf(level), tree));
    if (look().join() !== before.join()) out.push(title);
  }
  return { out, codes };
}

t.test('two levels that lead out of the folder change nothing outside', async (t) => {
  const { out, codes } = await escapes(t);
  t.same(out, []);
  t.same([...codes].sort(), ['failed', 'fine'], 'and every failure has a code');
  const { out: free } = await unconfined(t, () => escapes(t));
  t.ok(free.length >= 10, `without a sandbox ${free.length} do: ${free.join(', ')}`);
});

t.test('tar writes nothing outside the tree, not even into the root of the sandbox', async (t) => {
  const { tree } = await escapeBed(t);
  const inRoot: Crafted[] = [{ name: './x', type: '2', target: '/' }];
  t.equal(await extracted(tarOf(inRoot), tree), 'fine');
  for (const name of ['new', 'tmp/new', 'usr/new', 'snapshot'])
    t.equal(await extracted(tarOf([{ name: `./x/${name}`, data: 'x' }]), tree), 'failed', `/${name}`);
});

t.test('a nasty tree is packed and extracted in the sandbox without a difference', async (t) => {
  const folder = await temporary(t);
  const [source, target] = [join(folder, 'source'), join(folder, 'target')];
  await mkdir(target);
  await makeNastyTree(source);
  const { bytes } = await packed(folderSource(source), join(folder, 'snapshot'));
  t.equal(await extracted(bytes, target), 'fine');
  t.same(differences(await snapshotOf(source), await snapshotOf(target)), []);
});

t.test('a base made without a sandbox serves a level made in one', async (t) => {
  const folder = await temporary(t);
  const [source, target, snapshot] = [join(folder, 'source'), join(folder, 'target'), join(folder, 'snapshot')];
  await mkdir(target);
  await makeNastyTree(source);
  await sleep(1300); // a level looks back a second
  const base = await unconfined(t, () => packed(folderSource(source), snapshot));
  await writeFile(join(source, 'new'), 'new');
  const level = await packed(folderSource(source), `${snapshot}-1`, snapshot);
  t.ok(level.entries < 20 && base.entries > 50, `${level.entries} of ${base.entries} entries are in the level`);
  for (const { bytes } of [base, level]) t.equal(await extracted(bytes, target), 'fine');
  t.same(differences(await snapshotOf(source), await snapshotOf(target)), []);
});

t.test('/proc/PID/root is the root of that process, not of this machine', async (t) => {
  const folder = await temporary(t);
  const script = `mount -t tmpfs tmpfs '${folder}' && echo own >'${folder}/file' && echo there && exec sleep 600`;
  const holder = startChild('unshare', ['--mount', '--', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => holder.kill('SIGKILL'));
  for await (const text of holder.stdout ?? []) if (String(text).includes('there')) break;
  const target = await temporary(t);
  const { bytes } = await packed(folderSource(`/proc/${holder.pid}/root${folder}`), join(target, '..', `snapshot-${holder.pid}`));
  t.teardown(() => rm(join(target, '..', `snapshot-${holder.pid}`)));
  t.equal(await extracted(bytes, target), 'fine');
  t.equal(await readFile(join(target, 'file'), 'utf8'), 'own\n');
  const gone = packLevel(planOf(folderSource('/proc/999999999/root'), join(target, 'snapshot')), never, () => undefined);
  t.equal(await codeOf(gone), 'unavailable');
});

const ours = (): string[] => descendants(process.pid).flatMap(({ name }) => (/^(bwrap|unshare|tar|zstd)$/.test(name) ? [name] : []));

async function until(wanted: () => boolean): Promise<boolean> {
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(2)) if (wanted()) return true;
  return false;
}

t.test('an abort kills tar and its compressor, and a sandbox that is still starting', async (t) => {
  const folder = await temporary(t);
  await writeFile(join(folder, 'large'), randomBytes(8 << 20));
  const start = (signal: AbortSignal) =>
    packLevel({ ...planOf(folderSource(folder), `${folder}.snapshot`), compression: 'zstd' }, signal, () => undefined);
  t.teardown(() => Promise.all([rm(`${folder}.snapshot`, { force: true }), rm(`${folder}.snapshot.list`, { force: true })]));
  const abort = new AbortController();
  const { stream } = await start(abort.signal);
  const chunks = stream[Symbol.asyncIterator]();
  await chunks.next(); // and no more for now
  t.ok(await until(() => ours().includes('tar') && ours().includes('zstd')), 'both are at work');
  abort.abort();
  const rest = async () => {
    while (!(await chunks.next()).done);
  };
  t.equal(await codeOf(rest()), 'aborted');
  t.ok(await until(() => ours().length === 0), 'and gone');
  const codes = new Set<string>();
  for (let n = 0; n < 40; n++) {
    const early = new AbortController();
    const level = start(early.signal).then(({ stream }) => buffer(stream));
    setTimeout(() => early.abort(), n / 8);
    codes.add(await codeOf(level));
  }
  t.same([...codes], ['aborted'], '40 stops in the first 5 ms');
  t.ok(await until(() => ours().length === 0), 'nothing is left');
});

t.test('a bwrap that somebody kills while its sandbox starts ends the level, and leaves no process', async (t) => {
  const folder = await temporary(t);
  await mkdir(join(folder, 'tree'));
  await writeFile(join(folder, 'tree/file'), randomBytes(1 << 20));
  const source = folderSource(join(folder, 'tree'));
  const own = () => descendants(process.pid).filter(({ name }) => name === 'bwrap');
  /** Also those whose parent is gone. */
  const about = async () => {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
    const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
    return lines.filter((line) => line.includes(folder));
  };
  for (let n = 0; n < 60; n++) {
    let isOver = false;
    const packing = codeOf(packed(source, join(folder, `snapshot-${n}`))).finally(() => {
      isOver = true;
    });
    const killing = (async () => {
      // as soon as bwrap has the child that waits for it
      while (!isOver) {
        const all = own();
        const bwrap = all.find(({ pid }) => all.some(({ parent }) => parent === pid));
        if (bwrap) return process.kill(bwrap.pid, 'SIGKILL');
        await sleep(0);
      }
    })().catch(() => undefined);
    const outcome = await Promise.race([packing, sleep(20_000, 'never', { ref: false })]);
    if (outcome === 'never') isOver = true;
    await killing;
    if (outcome !== 'fine' && outcome !== 'failed') return t.fail(`kill ${n}: the level ended ${outcome}`);
  }
  for (const end = Date.now() + 5_000; Date.now() < end && (await about()).length > 0; ) await sleep(20);
  t.same(await about(), [], 'no process is left');
});

t.test('tar never runs without the sandbox', async (t) => {
  const folder = await temporary(t);
  await symlink('/usr/bin/tar', join(folder, 'tar'));
  await withPath(folder, async () => {
    const missing = { code: 'unavailable', message: /bwrap is not installed on this appliance.* install the package bubblewrap/ };
    const level = packLevel(planOf(folderSource(folder), join(folder, 'snapshot')), never, () => undefined);
    await t.rejects(
      level.then(({ stream }) => buffer(stream)),
      missing,
    );
    const entry = archive('x.tar', { compression: 'none' });
    await t.rejects(extractLevel(entry, 'folder', folder, Readable.from([Buffer.alloc(10_240)]), never), missing);
  });
});
