/** Big files in backups of real containers: each run holds only their changed blocks, and each comes back as it was. */

import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { notSoon, part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { change, random } from '../../support/big-file-history.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { destroyLxc, startLxc } from '../../support/lxc.js';
import { ownFileSystem } from '../bed/own-file-system.js';
import { backUp, makeJob, restore, settle } from '../fidelity/bench.js';
import { manifestHashes, typed } from '../fidelity/shell-block.js';

const a = await makeAppliance(t, { flags: ['--undo-hours', '0', '--new-base-ratio', '10', '--big-file-mib', '0.2'] });

async function makeBed(name: string, features: readonly string[], mount: (data: string) => Promise<void> = async () => undefined) {
  await a.lxc(name, { stopped: true });
  const data = join(a.lxcPath, name, 'volumes/data');
  await mount(data);
  await startLxc(a.lxcPath, name);
  const job = await makeJob(a.service, { name, container: name, type: 'lxc', features });
  const record = join(a.share, 'backups', `container-backup@${name}`);
  const manifest = async (run: string): Promise<unknown> => JSON.parse(await readFile(join(record, run, 'manifest.json'), 'utf8'));
  const restored = async (run: string) => {
    const clone = `${name}-clone`;
    await restore(a.service, { portfolio: `${name}/${run}`, container: clone, type: 'lxc' });
    const folder = join(a.lxcPath, clone, 'volumes/data');
    const found = await snapshotOf(folder);
    await destroyLxc(a.lxcPath, clone);
    return found;
  };
  const byHand = async (run: string) => {
    const into = join(a.folder, 'by-hand', name, run);
    await mkdir(into, { recursive: true });
    const said = await typed(record, run, into);
    return { hashes: manifestHashes(said), checks: said.checks, tree: await snapshotOf(join(into, 'data')) };
  };
  return { name, data, job, record, manifest, restored, byHand };
}

t.test('a page changed in a big file costs a block in the next run, and both runs come back', async (t) => {
  const bed = await makeBed('page', []);
  const file = join(bed.data, 'disk.img');
  await writeFile(file, randomBytes(64 << 20));
  await settle();
  const first = await backUp(a.service, bed.job);
  const before = await snapshotOf(bed.data);
  {
    await using handle = await open(file, 'r+');
    await handle.write(randomBytes(4096), 0, 4096, 20 << 20);
  }
  await settle();
  const second = await backUp(a.service, bed.job);
  const after = await snapshotOf(bed.data);
  const blocks = (await stat(join(bed.record, second, 'data.blocks.tar'))).size;
  t.ok(blocks < (128 << 10) + (64 << 10), `${blocks} bytes of blocks`);
  t.same(differences(before, await bed.restored(first)), [], 'the first run');
  t.same(differences(after, await bed.restored(second)), [], 'the second run');
  t.same(part(await bed.manifest(second), 'must_know'), ['blocks']);
  const hand = await bed.byHand(second);
  t.match(hand.hashes[1], /^[0-9a-f]{64}$/);
  t.ok(hand.checks.length > 0 && hand.checks.every((line) => line.endsWith(': OK')), 'each file is checked by its hash');
  t.same(differences(after, hand.tree), [], 'the second run, by hand');
});

t.test('a pause that would be too long is refused before the container is frozen, or skipped, as the job says', async (t) => {
  const bed = await makeBed('long', ['pause']);
  await writeFile(join(bed.data, 'disk.img'), Buffer.alloc(2 * 2 ** 30, 1));
  await settle();
  const job = await a.service.create('backup', {
    ...{ job_name: 'limited', container_id: 'long', type: 'lxc', dest: { target: 'local', path: '/test/limited' }, at: notSoon() },
    ...{ features: ['pause'], max_pause_seconds: 1 },
  });
  const touch = () => utimes(join(bed.data, 'disk.img'), new Date(), new Date());
  await a.service.call('PUT', '/preference/', { backup_concurrent: 2, max_pause_seconds: 1 });
  for (const one of [job, bed.job]) {
    const running = a.service.backUp(one);
    await touch();
    await t.rejects(running, /pause_too_long.*more than the 1 s/);
  }
  await a.service.call('PUT', '/preference/', { backup_concurrent: 2 });
  await a.service.call('PUT', `/backup/${job}`, { long_pause: 'skip' });
  const running = a.service.backUp(job);
  await touch();
  const { warnings, pause_ms } = await running;
  t.match(warnings, [{ code: 'pause_too_long' }]);
  t.equal(pause_ms, 0);
});

for (const type of ['xfs', 'btrfs'] as const) {
  t.test(`on ${type} a big file that changes is cloned in the pause, and no clone is left`, async (t) => {
    const bed = await makeBed(`clone-${type}`, ['pause'], (data) => ownFileSystem(t, join(a.folder, type), data, 1 << 30, type));
    const file = join(bed.data, 'disk.img');
    await writeFile(file, randomBytes(200 << 20));
    await settle();
    const first = await backUp(a.service, bed.job);
    let isOver = false;
    const writing = (async () => {
      await using handle = await open(file, 'r+');
      for (let at = 0; !isOver; at++, await sleep(20)) await handle.write(randomBytes(4096), 0, 4096, (at * 7919 * 4096) % (200 << 20));
    })();
    const second = await backUp(a.service, bed.job);
    isOver = true;
    await writing;
    const pause = Number(part(await bed.manifest(second), 'pause_ms'));
    t.ok(pause < 1000, `a pause of ${pause} ms`);
    t.same(await readdir(bed.data), ['disk.img'], 'nothing is left beside the file');
    const restored = await bed.restored(second);
    t.equal(restored.get('disk.img')?.size, BigInt(200 << 20));
    t.not(restored.get('disk.img')?.sha256, (await bed.restored(first)).get('disk.img')?.sha256, 'it holds what changed');
  });
}

for (const seed of [1, 2]) {
  t.test(`random history ${seed} comes back at each run, and by hand`, async (t) => {
    const bed = await makeBed(`history${seed}`, seed === 1 ? ['compress'] : []);
    const pick = random(seed * 104_729);
    const taken: { run: string; was: Awaited<ReturnType<typeof snapshotOf>> }[] = [];
    for (let run = 0; run < 5; run++) {
      const did: string[] = [];
      for (let n = run === 0 ? 15 : 1 + pick(8); n > 0; n--) did.push(await change(bed.data, pick));
      await settle();
      taken.push({ run: await backUp(a.service, bed.job), was: await snapshotOf(bed.data) });
      t.comment(did.join('; '));
    }
    for (const { run, was } of taken) t.same(differences(was, await bed.restored(run)), [], run);
    const last = taken.at(-1);
    // By hand, zeros where a hole was stay a hole.
    const wrong = last && differences(last.was, (await bed.byHand(last.run)).tree).filter((line) => !/: blocks was /.test(line));
    t.same(wrong, [], 'by hand');
  });
}
