/** SIGKILL of the service and of its children while they store the blocks of a big file that its container writes to all the time. Nothing
 *  that was acknowledged or stored is lost, no clone is left, and no container stays frozen. */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { isWanted, pointsOf } from '../../support/depth.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { destroyLxc } from '../../support/lxc.js';
import { survivors } from '../bed/process-tree.js';
import { backupBody, CrashBench, describeHit, type Hit, restoreBody, type Victim } from '../crash/bench.js';
import { Ledger } from '../crash/ledger.js';
import { seededRandom } from '../crash/random.js';
import { checkRecord, filesIn, listedRuns, rubbish, runNames } from '../crash/record.js';
import { BlockWatch, isCloning, type Phase } from './block-watch.js';
import { fileName, PageWriter, readImage } from './page-writer.js';

const points = pointsOf('block-kills');
const random = seededRandom();
t.comment(`TEST_SEED=${random.seed}`);
const a = await makeAppliance(t, { flags: ['--undo-hours', '0', '--new-base-ratio', '10'] });

const types = (['xfs', 'ext4'] as const).filter(isWanted);

interface Shot {
  readonly phase: Phase;
  readonly victim: Victim;
  /** Kills the perl that clones. */
  readonly clones: boolean;
  /** Longest time from the beginning of the phase to the kill, ms. */
  readonly within: number;
}

const within: Readonly<Record<Phase, number>> = { live: 60, trial: 0, frozen: 100, clone: 0, thawed: 100 };

/** Each file system begins with other phases, so that the few kills of `make test` hit each phase. The number of phases is odd, so that each gets
 *  both kinds of victims. Where nothing can be cloned, perl is over at once. */
const rounds: Readonly<Record<'xfs' | 'ext4', readonly Phase[]>> = {
  xfs: ['clone', 'thawed', 'frozen', 'live', 'trial'],
  ext4: ['live', 'frozen', 'thawed'],
};

function plan(type: 'xfs' | 'ext4'): Shot[] {
  return Array.from({ length: points[type] }, (_, n): Shot => {
    const phase = rounds[type][n % rounds[type].length] ?? 'live';
    const ofService = (n + (type === 'xfs' ? 0 : 1)) % 2 === 1;
    const clones = !ofService && (phase === 'clone' || phase === 'trial');
    return { phase, within: within[phase], victim: ofService ? 'service' : 'child', clones };
  });
}

interface Bed {
  readonly type: 'xfs' | 'ext4';
  readonly writer: PageWriter;
  readonly job: number;
  readonly bench: CrashBench;
  /** Kills by phase and victim. */
  readonly table: Map<string, number>;
}

/** Free space that may be missing while the container writes: xfs keeps room for a while beside each page that it copied (some 64 MiB), and
 *  a clone that is left grows to the whole file. So it is the inodes that tell. */
const apartWhileWriting = 80 << 20;
const apartAtRest = 8 << 20;

const workFolder = (): Promise<string[]> => readdir(join(a.stateFolder, 'work')).catch(() => []);
const partsOnShare = async (): Promise<string[]> => (await filesIn(a.share)).filter((file) => file.endsWith('.part'));

async function makeBed(t: Test, type: 'xfs' | 'ext4'): Promise<Bed> {
  const writer = await PageWriter.make(t, a, { name: `pages-${type}`, type, mebibytes: points.mebibytes });
  const bench = new CrashBench(a, random, new Ledger(writer.name));
  const answer = await a.service.call('POST', '/backup/', backupBody(writer, 3));
  bench.ledger.keep('backup', answer);
  return { type, writer, job: Number(part(answer, 'id')), bench, table: new Map() };
}

/** Waits until the processes are gone. @returns the names of those that are not */
async function remaining({ children }: BlockWatch): Promise<string[]> {
  let left = survivors(children);
  for (const until = Date.now() + 3000; left.length > 0 && Date.now() < until; ) {
    await sleep(20);
    left = survivors(children);
  }
  return left.map(({ name }) => name);
}

/** Checks after a kill, once the service runs. */
async function checkAfterKill(t: Test, { writer, bench }: Bed, hit: Hit, watch: BlockWatch): Promise<void> {
  t.ok(hit.thawedMs < 3000, `not frozen after ${hit.thawedMs} ms`);
  t.equal(await writer.engine.state(writer.name), 'running', 'the container runs');
  t.same(await bench.ledger.problems(a.service), [], 'what was acknowledged is there');
  if (hit.outcome.result !== 0) t.match(hit.outcome, { result: -1, error: { code: String, message: String } });
  t.same(await remaining(watch), [], 'no process of the run is left');
  t.same(await writer.leftovers(apartWhileWriting), [], 'no clone is left');
}

/** Kills during one run. @returns undefined when the run ended before */
async function kill(t: Test, bed: Bed, { phase, victim, clones }: Shot, delayMs: number): Promise<Hit | undefined> {
  const { writer, job, bench } = bed;
  const before = runNames(await listedRuns(a.service, job));
  const files = await filesIn(writer.record);
  const watch = new BlockWatch(writer, a.service.pid);
  // A perl lives for some milliseconds: the bench waits for the first one from the start on, and for the other from the freeze on.
  const begins = () => (clones ? phase === 'trial' || watch.has('frozen') : watch.has(phase));
  await a.service.call('PUT', `/backup/${job}/run`);
  const hit = await bench.interrupt({
    ...{ kind: 'backup', id: job, container: writer.name, engine: writer.engine, usual: bed.type, victim },
    ...(clones && { isVictim: isCloning }),
    when: { shows: begins, delayMs },
    look: () => watch.look(),
  });
  if (!hit) return undefined;
  t.comment(`${bed.type}, ${phase}: ${describeHit(hit)}, thawed in ${hit.thawedMs} ms`);
  await checkAfterKill(t, bed, hit, watch);
  const fresh = runNames(await listedRuns(a.service, job)).filter((run) => !before.includes(run));
  if (clones) t.equal(hit.outcome.result, 0, 'a killed perl is started again');
  if (hit.outcome.result !== 0 && victim === 'child') {
    t.same(fresh, [], 'a run that failed is not listed');
    t.same(await filesIn(writer.record), files, 'and left nothing on the target');
    t.same(await workFolder(), [], 'nor in the work folder');
  }
  t.same((await checkRecord(a.service, job, writer.record)).problems, [], 'each listed run has every byte it promises');
  for (const run of fresh) await checkMoment(t, bed, run);
  return hit;
}

/** Runs without a kill, and looks for what the runs before have left. */
async function succeed(t: Test, { writer, job, bench, type }: Bed): Promise<void> {
  bench.learn(type, await a.service.backUp(job));
  const check = await checkRecord(a.service, job, writer.record);
  t.same(check.problems, [], 'each listed run has every byte it promises');
  t.same(await rubbish(writer.record, check), [], 'nothing else lies in the record');
  t.same(await partsOnShare(), [], 'nor on the share');
  t.same(await workFolder(), [], 'nor in the work folder');
}

/** Kills until the phase was hit. A kill that came late, or hit another phase, counts as well, and the next one comes earlier. */
async function fire(t: Test, bed: Bed, shot: Shot): Promise<void> {
  let delayMs = random.next() * shot.within;
  for (let tries = 0; tries < 10; tries++, delayMs /= 2) {
    const hit = await kill(t, bed, shot, delayMs);
    if (!hit) continue;
    const cell = `${hit.during} ${hit.what}`;
    bed.table.set(cell, (bed.table.get(cell) ?? 0) + 1);
    await succeed(t, bed);
    if (hit.during === shot.phase) return;
  }
  t.fail(`no kill hit the phase ${shot.phase}`);
}

/** Restores a run as a clone. @returns the clone's volume */
async function restored({ writer }: Bed, run: string): Promise<string> {
  a.alsoDestroy('clone');
  await destroyLxc(a.lxcPath, 'clone');
  await a.service.ended('restore', await a.service.create('restore', restoreBody(writer, 'clone', run)));
  return join(a.lxcPath, 'clone/volumes/data');
}

/** Restores a run of the container while it wrote. */
async function checkMoment(t: Test, bed: Bed, run: string): Promise<void> {
  const { last, wrong, rest } = await readImage(join(await restored(bed, run), fileName));
  t.ok(last > 0, `${run} is restored as it was after write ${last}`);
  t.same([wrong.slice(0, 3), rest], [[], bed.writer.rest], 'all of it is of that moment');
}

/** Checks that the check for clones sees one. */
async function checkCheck(t: Test, { writer }: Bed): Promise<void> {
  const unnamed = 0o20000000 | constants.O_DIRECTORY;
  const file = await open(writer.data, constants.O_RDWR | unnamed, 0o600);
  t.match(await writer.leftovers(apartAtRest, 1), [/inodes, not/], 'a file without a name would be seen');
  await file.close();
}

const beds: Bed[] = [];

for (const type of types) {
  t.test(`${type}: a kill loses nothing, leaves no clone and no frozen container, and the next run succeeds`, async (t) => {
    const bed = await makeBed(t, type);
    beds.push(bed);
    const { writer, job } = bed;
    await succeed(t, bed);
    for (const shot of plan(type)) await fire(t, bed, shot);
    await writer.stop();
    await succeed(t, bed);
    t.same(await writer.leftovers(apartAtRest), [], 'the file system has its free space again');
    await checkCheck(t, bed);
    const listed = runNames(await listedRuns(a.service, job));
    t.equal(listed.length, 3, 'the last three runs are listed');
    const [last = '', , oldest = ''] = listed;
    const now = await snapshotOf(writer.data);
    const found = differences(now, await snapshotOf(await restored(bed, last)));
    // A file takes more blocks where pages of it were cloned and written again.
    t.same(
      found.filter((line) => !line.startsWith(`"${fileName}": blocks`)),
      [],
      'the last run is restored, byte by byte',
    );
    await checkMoment(t, bed, oldest);
  });
}

t.test('the kills reached the planned number, and each kind', async (t) => {
  t.ok(beds.reduce((sum, { bench, type }) => sum + bench.kills - points[type], 0) >= 0);
  for (const phase of new Set(types.flatMap(plan).map((shot) => shot.phase))) {
    const cells = beds.flatMap(({ type, table }) =>
      [...table].filter(([cell]) => cell.startsWith(phase)).map(([cell, n]) => ({ type, cell, n })),
    );
    const told = cells.map(({ type, cell, n }) => `${type} ${cell.slice(phase.length + 1)} ${n}`);
    t.ok(cells.length > 0, `${phase}: ${told.join(', ')}`);
  }
  for (const { type, table, bench } of beds) {
    t.comment(`${type}: ${[...table].map(([cell, n]) => `${cell} ${n}`).join(', ')}; ${bench.late} came too late`);
    t.comment(`${type}: slowest thaw ${bench.slowestThawMs} ms; ${bench.ledger.acknowledged} creations acknowledged`);
  }
});
