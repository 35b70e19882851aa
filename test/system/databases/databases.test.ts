/** Databases under load, in containers of both engines: what a run with a pause brings back is of one moment, whatever the run builds on;
 *  a run without one says which databases moved. */
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { random } from '../../support/big-file-history.js';
import { isWanted, pointsOf, seed } from '../../support/depth.js';
import { type Bed, basesOf, behind, filesByBlocks, levelsOf, makeBed, problemsOf, sourcesOf, type Taken } from './bed.js';
import { type AllSaid, dockerMachine, lxcMachine, type Machine } from './machines.js';

const { all, paused, retention, live } = pointsOf('databases');
/** So small that the larger tables, the logs of PostgreSQL and InnoDB, and the bank in SQLite are stored by blocks. */
const flags = ['--big-file-mib', '4', '--new-base-ratio', '10', '--undo-hours', '0'];
const dockerd = await ownDockerd(t);
const a = await makeAppliance(t, { dockerd, flags });
const pick = random(seed);
t.comment(`seed ${seed}`);

/** Waits a random time, so that a run begins at any point of checkpoints and transfers. */
const anyMoment = (): Promise<void> => sleep(pick(1000));

interface Copied {
  readonly run: Taken;
  readonly copy: AllSaid;
}

/** Takes a run with a pause and audits its copy. */
async function copyPaused(t: Test, bed: Bed, levels: readonly number[]): Promise<Copied> {
  await anyMoment();
  const before = await bed.machine.counts(bed.container);
  const run = await bed.take();
  const copy = await bed.copyOf(run);
  t.same(problemsOf(copy), [], `${run.run}, with a pause of ${run.pauseMs} ms: every invariant holds`);
  t.same(behind(copy, before), [], 'what was committed before the run is there');
  t.equal(run.moving, '', 'nothing moved in the pause');
  t.same(levelsOf(run), [levels, levels], 'levels of the root and of the volume');
  return { run, copy };
}

/** Takes a run without a pause and audits its copy. @returns what is wrong with the copy */
async function copyLive(t: Test, bed: Bed): Promise<string[]> {
  await anyMoment();
  const run = await bed.take();
  const problems = problemsOf(await bed.copyOf(run));
  t.match(
    run.moving,
    /Databases among them: .*SQLite \(rootfs:\/srv\/bank\/bank\.db\)/,
    `warned of SQLite; its copy: ${problems.join('; ') || 'whole'}`,
  );
  return problems;
}

function compare(t: Test, type: Machine['type'], taken: readonly Copied[]): void {
  const pauses = taken.map(({ run }) => run.pauseMs).toSorted((one, other) => one - other);
  const whole = taken.filter(({ copy }) => problemsOf(copy).length === 0).length;
  const counts = Object.entries(taken.at(-1)?.copy ?? {}).map(([name, { count }]) => `${name} ${count}`);
  t.comment(`${type}: ${whole} of ${taken.length} paused copies are consistent; transfers in the last: ${counts.join(', ')}`);
  t.comment(`${type}: pauses: shortest ${pauses[0]}, median ${pauses[pauses.length >> 1]}, longest ${pauses.at(-1)} ms`);
}

const machines = { lxc: () => lxcMachine(a, all), docker: () => dockerMachine(a, dockerd, all) };

for (const [type, make] of Object.entries(machines)) {
  if (!isWanted(type)) continue;
  const machine = await make();
  await machine.make('bank', seed);

  t.test(`${type}: each run with a pause comes back consistent, on old and new bases, and when retention has removed others`, async (t) => {
    const bed = await makeBed(a, machine, { container: 'bank', name: `${type}-paused`, pause: true, retention });
    const taken: Copied[] = [];
    const byBlocks = new Set<string>();
    const newBases = Math.floor(paused / 2);
    for (let n = 0; n < paused; n++) {
      if (n === newBases)
        await bed.exclude(
          taken
            .flatMap(({ run }) => sourcesOf(run))
            .slice(0, 2)
            .map((source) => `${source}:/no-such`),
        );
      const copied = await copyPaused(t, bed, n === 0 || n === newBases ? [0, 1] : [0, 1, 2]);
      for (const file of await filesByBlocks(bed, copied.run)) byBlocks.add(file.replace(/\d+$|[0-9A-F]{24}$/, 'N'));
      taken.push(copied);
    }
    compare(t, machine.type, taken);
    t.comment(`stored by blocks: ${[...byBlocks].sort().join(', ')}`);
    t.ok(byBlocks.has('srv/bank/bank.db'), 'the bank in SQLite is stored by blocks');
    t.ok(
      [...byBlocks].some((file) => file.startsWith('postgresql/base/')),
      'so is a table of PostgreSQL',
    );

    const left = await readdir(bed.record, { recursive: true });
    const old = taken.slice(0, newBases).flatMap(({ run }) => basesOf(run));
    t.same(
      left.filter((path) => old.includes(path)),
      [],
      'retention has removed the old bases with their runs',
    );
    const oldest = taken.at(-retention);
    if (oldest === undefined) return t.fail('there is no oldest run');
    t.same(await bed.copyOf(oldest.run), oldest.copy, 'the oldest run that is left comes back as before');
  });

  t.test(`${type}: each run without a pause warns of moving files and names SQLite, whose copies are torn`, async (t) => {
    const bed = await makeBed(a, machine, { container: 'bank', name: `${type}-live`, pause: false });
    const torn: string[][] = [];
    for (let n = 0; n < live; n++) {
      const problems = await copyLive(t, bed);
      if (problems.length > 0) torn.push(problems);
    }
    const ofSqlite = torn.filter((problems) => problems.some((one) => one.startsWith('sqlite: ')));
    t.comment(`${type}: ${torn.length} of ${live} copies without a pause are torn, SQLite in ${ofSqlite.length}; the first: ${torn[0]}`);
    t.ok(ofSqlite.length > 0, 'an audit that finds nothing would prove nothing');
  });
}
