/** A file that is written through a mapping comes back as it stood in the pause, however busy its writer was. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { ownFileSystem } from '../bed/own-file-system.js';
import { levelsOfData, lookAt, newJob, take } from '../bed/runs.js';
import { firstCopy, mappedFile, seenFrozen, twoPasses, writeMapped } from './mmap-passes.js';
import { blankMapped, latest, mmapWriter, momentOf, tornBy } from './mmap-writer.js';
import { makePythonContainer, type PythonContainer } from './python-container.js';

interface Subject {
  readonly appliance: Appliance;
  readonly container: PythonContainer;
}

/** Makes a container whose only process stores into a mapped file as fast as it can. */
async function mapped(t: Test, blank: Buffer, leastMib: string): Promise<Subject> {
  const flags = ['--new-base-ratio', '5', '--big-file-mib', leastMib]; // the file is most of the base
  const appliance = await makeAppliance(t, { flags });
  const container = await makePythonContainer(appliance, 'mapped', mmapWriter, async (data) => {
    await ownFileSystem(t, join(appliance.folder, 'volume'), data, 256 << 20);
    await writeMapped(data, blank);
  });
  await sleep(3500); // then a pass no longer takes the latest time for a change
  return { appliance, container };
}

t.test('a file that is written through a mapping and stored by blocks comes back byte for byte as in the pause', async (t) => {
  const blank = blankMapped();
  const { appliance, container } = await mapped(t, blank, '16');
  const job = await newJob(appliance, 'mapped', 'mapped', ['compress', 'pause']);
  for (let n = 0; n < 3; n++) {
    const going = take(appliance, job);
    const stood = await seenFrozen(container, going);
    const run = await going;
    const restored = await lookAt(appliance, run, mappedFile);
    t.equal(tornBy(blank, restored), undefined, `one moment, after a pause of ${run.pauseMs} ms: after store ${latest(restored)}`);
    if (stood) t.ok(stood.content.equals(restored), 'the moment of the pause, as the file was then');
    else t.comment('the pause ended before all of the file had been read in it');
  }
});

t.test('a file that is written through a mapping comes back byte for byte as in the pause', async (t) => {
  const blank = blankMapped();
  const { appliance, container } = await mapped(t, blank, '1024');
  const job = await newJob(appliance, 'mapped', 'mapped', ['compress', 'pause']);
  let [unstamped, torn] = [0, 0];
  for (let n = 0, missed = 0; n < 3 + missed; n++) {
    const going = take(appliance, job);
    const stood = await seenFrozen(container, going);
    const run = await going;
    if (stood === undefined && missed++ === 0) {
      t.comment(`once more: a pause of ${run.pauseMs} ms ended before all of the file had been read in it`);
      continue;
    }
    const restored = await lookAt(appliance, run, mappedFile);
    t.same(levelsOfData(run), n === 0 ? [0, 1] : [0, 1, 2], `${run.run}: a pause of ${run.pauseMs} ms`);
    t.equal(tornBy(blank, restored), undefined, `one moment: after store ${latest(restored)}`);
    t.ok(stood?.content.equals(restored), 'the moment of the pause, as the file was then');
    const first = await firstCopy(appliance, run);
    if (tornBy(blank, first.content) !== undefined) torn++; // a writer that always waits for the disk leaves a consistent file
    if (first.mtime === stood?.mtime) unstamped++;
  }
  t.ok(torn > 0, `${torn} of 3 live passes are no moment: a check that nothing fails would prove nothing`);
  t.comment(`in ${unstamped} of 3 runs no stamp told the passes apart`); // the next test forces that case
});

t.test('only the sync before the first pass makes stores through a mapping visible to the second', async (t) => {
  const blank = blankMapped();
  const { appliance, container } = await mapped(t, blank, '1024');
  const synced = await twoPasses(appliance, container, true);
  t.ok(synced.restored.equals(synced.stood), 'with it, the second pass brings the file as it stood');
  let without = await twoPasses(appliance, container, false);
  for (let tried = 1; without.stamped && tried < 8; tried++) {
    t.comment('once more: the kernel wrote pages back meanwhile, and so stamped the file by itself');
    await sleep(3500);
    without = await twoPasses(appliance, container, false);
  }
  t.notOk(without.restored.equals(without.stood), 'without it, the second pass misses them');
  t.not(tornBy(blank, without.restored), undefined, `and the check sees it: ${tornBy(blank, without.restored)}`);
});

t.test('the check of the mapped file finds one stale page', async (t) => {
  const blank = blankMapped();
  const content = momentOf(blank, 40_000n, false);
  t.equal(tornBy(blank, content), undefined, 'after a store');
  t.equal(tornBy(blank, momentOf(blank, 40_000n, true)), undefined, 'between the two words of a store');
  momentOf(blank, 30_000n, false).copy(content, 8192, 8192, 12_288);
  t.match(tornBy(blank, content), /^1 of \d+ pages/, 'one page of an earlier moment');
  t.equal(tornBy(blank, blank), undefined, 'before the first store');
  t.match(tornBy(blank, blank.subarray(4096)), /bytes instead of/, 'a page less');
});
