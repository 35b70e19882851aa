/** SIGKILL of the service and of its children, at random points of real runs. Afterwards acknowledged writes are there, listed runs are
 *  complete, no container stays frozen, and a restored container is wholly old or wholly new. */
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Body, part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { pointsOf } from '../../support/depth.js';
import { backupBody, CrashBench, describeHit, type Hit, type Moment, restoreBody, type Victim } from './bench.js';
import { type BusyContainer, makeBusyDocker, makeBusyLxc, type State, type Trees, treeDifferences, treesOf } from './busy-container.js';
import { Ledger } from './ledger.js';
import { seededRandom } from './random.js';
import { checkRecord, filesIn, listedRuns, restoredByHand, rubbish, runNames } from './record.js';

const points = pointsOf('crash');
const { size } = points;

interface Kills {
  readonly anywhere: number;
  readonly aimed: readonly { readonly seen: readonly State[]; readonly within: number; readonly victims: readonly Victim[] }[];
}

/** The kills of each engine: some anywhere in a run, others up to so many ms after the container went through the states. These hit the
 *  pause and the swap, which are short, and the moment after the swap. */
const kills: Readonly<Record<'backups' | 'replacements' | 'clones', Kills>> = {
  backups: { anywhere: points.backups, aimed: [{ seen: ['frozen'], within: 150, victims: points.frozen }] },
  replacements: {
    anywhere: points.replacements,
    aimed: [
      { seen: ['stopped'], within: 80, victims: ['service'] }, // the new container is not started yet
      { seen: ['stopped'], within: 600, victims: Array<Victim>(points.swaps).fill('service') },
      { seen: ['stopped', 'running'], within: 600, victims: ['service'] },
    ],
  },
  clones: { anywhere: points.clones, aimed: [{ seen: ['running'], within: 400, victims: ['service'] }] },
};
const killsOf = ({ anywhere, aimed }: Kills): number => anywhere + aimed.reduce((sum, { victims }) => sum + victims.length, 0);
const allKills = 2 * Object.values(kills).reduce((sum, one) => sum + killsOf(one), 0);

const random = seededRandom();
t.comment(`TEST_SEED=${random.seed}`);
const dockerd = await ownDockerd(t);
// A low ratio: bases and differentials alternate, so that kills hit both. The hot file is stored by blocks.
const a = await makeAppliance(t, { dockerd, flags: ['--new-base-ratio', '0.05', '--undo-hours', '0', '--big-file-mib', '4'] });
const bench = new CrashBench(a, random, new Ledger('busy-lxc'));
a.alsoDestroy('clone');

interface Shot {
  readonly when: Moment;
  readonly victim: Victim;
  readonly command?: string;
}

/** The children that a backup's bytes go through. A campaign kills each of them; `make test` kills the first of each engine. */
const movers = { lxc: ['zstd', 'tar'], docker: ['tar', 'zstd'] } as const;

/** The kills in random order. Those anywhere in a run are spread over its parts, with the victims in turn, the named children first. */
function plan({ anywhere, aimed }: Kills, commands: readonly string[] = []): Shot[] {
  const shots = random.spread(anywhere).map((part, n): Shot => {
    const command = commands[n / 2];
    return { when: { part }, victim: n % 2 === 0 ? 'child' : 'service', ...(command !== undefined && { command }) };
  });
  const waited = aimed.flatMap(({ seen, within, victims }) =>
    victims.map((victim): Shot => ({ when: { seen, delayMs: random.next() * within }, victim })),
  );
  return random.shuffled([...shots, ...waited]);
}

/** Kills until the plan is done. A kill that came too late for its run is repeated at an earlier point. */
async function fire(shots: readonly Shot[], attempt: (shot: Shot, n: number) => Promise<Hit | undefined>): Promise<void> {
  let n = 0;
  for (const shot of shots) {
    let now = shot.when;
    for (let tries = 0; !(await attempt({ ...shot, when: now }, n++)); tries++) {
      if (tries === 10) throw new Error('no run could be hit');
      now = 'part' in now ? { part: now.part * 0.7 } : { ...now, delayMs: now.delayMs / 2 };
    }
  }
}

const recordOf = ({ name }: BusyContainer): string => join(a.share, 'crash', `container-backup@${name}`);

async function newJob(container: BusyContainer): Promise<number> {
  const answer = await a.service.call('POST', '/backup/', backupBody(container, 3));
  bench.ledger.keep('backup', answer);
  return Number(part(answer, 'id'));
}

/** Checks after any kill, once the service runs. */
async function checkAfterKill(t: Test, hit: Hit): Promise<void> {
  t.ok(hit.thawedMs < 3000, `${describeHit(hit)}: not frozen after ${hit.thawedMs} ms`);
  t.same(await bench.ledger.problems(a.service), [], 'what was acknowledged is there');
  if (hit.outcome.result !== 0) t.match(hit.outcome, { result: -1, error: { code: String, message: String } });
}

/** Checks after a run that succeeded after a kill. */
async function checkNoTrace(t: Test, container: BusyContainer): Promise<void> {
  t.same(await container.engine.leftovers(), [], 'nothing of a draft is left, nor of what was replaced');
  t.same(await readdir(join(a.stateFolder, 'work')).catch(() => []), [], 'nor of a run');
  t.same(
    (await filesIn(a.share)).filter((file) => file.endsWith('.part')),
    [],
    'nor of an archive',
  );
}

/** Checks a run that is whole although its job reports a failure, because the kill came late: its content must be right. */
async function checkKilledRun(t: Test, container: BusyContainer, run: string): Promise<void> {
  const folder = await mkdtemp(join(a.folder, 'by-hand-'));
  const restored = await restoredByHand(recordOf(container), run, folder);
  t.same(treeDifferences(await container.trees(), restored), [], `the killed run ${run} was complete`);
  await rm(folder, { recursive: true });
}

async function killedBackup(t: Test, container: BusyContainer, job: number, shot: Shot): Promise<Hit | undefined> {
  const { engine, name } = container;
  const before = runNames(await listedRuns(a.service, job));
  const files = await filesIn(recordOf(container));
  await a.service.call('PUT', `/backup/${job}/run`);
  const hit = await bench.interrupt({ kind: 'backup', id: job, container: name, engine, usual: `backup ${engine.type}`, ...shot });
  if (!hit) return undefined;
  t.comment(describeHit(hit));
  await checkAfterKill(t, hit);
  t.equal(await engine.state(name), 'running');
  const fresh = runNames(await listedRuns(a.service, job)).filter((run) => !before.includes(run));
  if (hit.outcome.result !== 0 && shot.victim === 'child') {
    t.same(fresh, [], 'a run that failed is not listed');
    t.same(await filesIn(recordOf(container)), files, 'and left no trace on the target');
  }
  for (const run of fresh) await checkKilledRun(t, container, run);
  t.same((await checkRecord(a.service, job, recordOf(container))).problems, [], 'each listed run has every byte it promises');
  return hit;
}

const make = {
  lxc: (name: string) => makeBusyLxc(a, name, size),
  docker: (name: string) => makeBusyDocker(a, dockerd, name, size),
} as const;

for (const type of ['lxc', 'docker'] as const) {
  t.test(`${type}: a killed backup leaves nothing, and the next one succeeds`, async (t) => {
    const container = await make[type](`busy-${type}`);
    const job = await newJob(container);
    let generation = 0;
    const succeed = async () => {
      const state = await a.service.backUp(job);
      bench.learn(`backup ${type}`, state);
      const listed = runNames(await listedRuns(a.service, job));
      t.ok(listed.includes(String(state.run)) && listed.length <= 3, 'a run that succeeds is listed, with two older ones at most');
    };
    for (let n = 0; n < 2; n++) await container.change(++generation).then(succeed);
    await fire(plan(kills.backups, movers[type]), async (shot) => {
      await container.change(++generation);
      const hit = await killedBackup(t, container, job, shot);
      if (!hit) return undefined;
      await succeed();
      await checkNoTrace(t, container);
      const check = await checkRecord(a.service, job, recordOf(container));
      t.same(check.problems, [], 'each listed run has every byte it promises');
      t.same(await rubbish(recordOf(container), check), [], 'and nothing else lies in the record');
      return hit;
    });
    const now = await container.trees();
    for (const [n, run] of runNames(await listedRuns(a.service, job)).entries()) {
      await a.service.ended('restore', await a.service.create('restore', restoreBody(container, 'clone', run)));
      t.equal(await container.engine.state('clone'), 'running', `${run} can be restored`);
      if (n === 0)
        t.same(treeDifferences(now, await treesOf(await container.engine.places('clone'))), [], 'and the newest is what there is');
      await container.engine.remove('clone');
    }
  });
}

interface Kept {
  readonly container: BusyContainer;
  /** Two states of the container, each with the run that stored it. */
  readonly states: readonly { readonly run: string; readonly trees: Trees }[];
}

const kept: { lxc?: Promise<Kept>; docker?: Promise<Kept> } = {};

/** The first test that needs it makes it. */
function keptContainer(type: 'lxc' | 'docker'): Promise<Kept> {
  kept[type] ??= makeKept(type);
  return kept[type];
}

async function makeKept(type: 'lxc' | 'docker'): Promise<Kept> {
  const container = await make[type](`kept-${type}`);
  const job = await newJob(container);
  const states: { run: string; trees: Trees }[] = [];
  for (const generation of [1, 2]) {
    await container.change(generation);
    states.push({ run: String((await a.service.backUp(job)).run), trees: await container.trees() });
  }
  return { container, states };
}

/** Restores without a kill. */
async function restored(usual: string, body: Body): Promise<void> {
  const id = await a.service.create('restore', body);
  bench.learn(usual, await a.service.ended('restore', id));
}

for (const type of ['lxc', 'docker'] as const) {
  t.test(`${type}: a killed restore leaves a container that is wholly old or wholly new, in its former state`, async (t) => {
    const { container, states } = await keptContainer(type);
    const { engine, name } = container;
    const usual = `replace ${type}`;
    let now = 1;
    const seen = { old: 0, new: 0 };
    const body = () => restoreBody(container, name, states[1 - now]?.run ?? '');
    const succeed = async () => {
      await restored(usual, body());
      now = 1 - now;
      t.same(treeDifferences(states[now]?.trees ?? {}, await container.trees()), [], 'a restore that nobody kills succeeds');
      await checkNoTrace(t, container);
    };
    await succeed();
    await fire(plan(kills.replacements), async (shot, n) => {
      const former = n % 3 === 2 && 'part' in shot.when ? 'stopped' : 'running';
      if (former === 'stopped') await engine.stop(name);
      const id = await a.service.create('restore', body());
      const hit = await bench.interrupt({ kind: 'restore', id, container: name, engine, usual, ...shot });
      t.equal(await engine.state(name), former, `${former} as it was`);
      if (former === 'stopped') await engine.start(name);
      const trees = await container.trees();
      const differ = states.map((state) => treeDifferences(state.trees, trees));
      const is = differ.findIndex((lines) => lines.length === 0);
      t.ok(is >= 0, `wholly one of its states: ${differ.map((lines) => lines.slice(0, 3).join('; ')).join(' | ')}`);
      if (hit) {
        seen[is === now ? 'old' : 'new']++;
        t.comment(`${describeHit(hit)}, ${is === now ? 'old' : 'new'}`);
        await checkAfterKill(t, hit);
        if (hit.outcome.result === -1 && shot.victim === 'child') t.equal(is, now, 'old when the restore says that it failed');
      }
      now = is;
      await succeed();
      return hit;
    });
    t.comment(`${seen.old} old, ${seen.new} new`);
  });

  t.test(`${type}: a killed restore leaves no clone or a complete one`, async (t) => {
    const { container, states } = await keptContainer(type);
    const { engine, name } = container;
    const usual = `clone ${type}`;
    const latest = states[1];
    const body = restoreBody(container, 'clone', latest?.run ?? '');
    const whole = async () => treeDifferences(latest?.trees ?? {}, await treesOf(await engine.places('clone')));
    const folders = [join(a.folder, 'hosts', `${name}.clone`), join(a.lxcPath, 'clone')];
    const before = await container.trees();
    await restored(usual, body);
    await engine.remove('clone');
    await fire(plan(kills.clones), async (shot) => {
      const id = await a.service.create('restore', body);
      const hit = await bench.interrupt({ kind: 'restore', id, container: 'clone', engine, usual, ...shot });
      const state = await engine.state('clone');
      if (hit) t.comment(`${describeHit(hit)}, clone ${state}`);
      if (hit) await checkAfterKill(t, hit);
      if (state === 'absent') {
        const there = await Promise.all(folders.map((path) => stat(path).catch(() => undefined)));
        t.same(there, [undefined, undefined], 'no folder of it is there');
      } else t.same([state, await whole()], ['running', []], 'it is whole and runs');
      await engine.remove('clone');
      await restored(usual, body);
      t.same(await whole(), [], 'the next one succeeds');
      await engine.remove('clone');
      await checkNoTrace(t, container);
      return hit;
    });
    t.same(treeDifferences(before, await container.trees()), [], 'the original is as it was');
    t.equal(await engine.state(name), 'running');
  });
}

t.test('the kills reached the planned number and kinds', async (t) => {
  const count = (what: string) => bench.byWhat.get(what) ?? 0;
  t.equal(bench.kills, allKills);
  t.ok(bench.frozen >= points.frozen.length, `${bench.frozen} of them hit a frozen container`);
  for (const what of ['service', 'tar', 'zstd']) t.ok(count(what) > 0, `${count(what)} hit ${what}`);
  t.ok(
    bench.ledger.acknowledged > 2 * allKills,
    `${bench.ledger.acknowledged} creations and ${bench.ledger.deletions} deletions were acknowledged`,
  );
  t.comment(`${[...bench.byWhat].map(([what, n]) => `${what} ${n}`).join(', ')}; ${bench.late} came too late`);
  t.comment(`slowest thaw ${bench.slowestThawMs} ms`);
});
