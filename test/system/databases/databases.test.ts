/** Databases under load, in containers of both engines: what a run with a pause brings back is of one moment, whatever the run builds on;
 *  a run without one says which databases moved. */
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { random } from '../../support/big-file-history.js';
import { isWanted, pointsOf, seed } from '../../support/depth.js';
import { type Bed, basesOf, behind, filesByBlocks, levelsOf, makeBed, problemsOf, type Taken } from './bed.js';
import { type AllSaid, dockerMachine, lxcMachine, type Machine, makeRoot } from './machines.js';

const { all, paused, retention, live } = pointsOf('databases');
/** So small that the larger tables, the logs of PostgreSQL and InnoDB, and the bank in SQLite are stored by blocks. */
const flags = ['--big-file-mib', '4', '--new-base-ratio', '10', '--undo-hours', '0'];
const dockerd = await ownDockerd(t);
const a = await makeAppliance(t, { dockerd, flags });
const pick = random(seed);
t.comment(`seed ${seed}`);

/** Waits a random time, so that a run begins at any point of checkpoints and transfers. */
const anyMoment = (): Promise<void> => sleep(pick(1000));

const ofSqlite = (problems: readonly string[]): boolean => problems.some((one) => one.startsWith('sqlite: '));
const nameOf = (file: string): string => file.replace(/\/(\d+|[0-9A-F]{24})$/, '/…'); // PostgreSQL numbers its files

interface Copied {
  readonly run: Taken;
  readonly copy: AllSaid;
}

/** Takes a run with a pause and audits its copy. */
async function copyPaused(t: Test, bed: Bed, last: Copied | undefined): Promise<Copied> {
  await anyMoment();
  const before = await bed.machine.counts(bed.container);
  t.same(last ? behind(before, last.copy, 1) : [], [], 'every database goes on');
  const run = await bed.take();
  const copy = await bed.copyOf(run, bed.machine.audit);
  t.same(problemsOf(copy), [], `${run.run}, with a pause of ${run.pauseMs} ms: every invariant holds`);
  t.same(behind(copy, before), [], 'what was committed before the run is there');
  t.equal(run.moving, '', 'nothing moved in the pause');
  return { run, copy };
}

/** Takes a run without a pause and audits its copy. @returns what is wrong with the copy */
async function copyLive(t: Test, bed: Bed): Promise<string[]> {
  await anyMoment();
  const run = await bed.take();
  const problems = problemsOf(await bed.copyOf(run, bed.machine.audit));
  const isNamed = /Databases among them: .*SQLite \(rootfs:\/srv\/bank\/bank\.db\)/.test(run.moving);
  t.ok(isNamed || !ofSqlite(problems), `${run.run} ${isNamed ? 'names' : 'does not name'} SQLite; its copy: ${problems[0] ?? 'whole'}`);
  return problems;
}

function tell(t: Test, type: Machine['type'], taken: readonly Copied[]): void {
  const pauses = taken.map(({ run }) => run.pauseMs).toSorted((one, other) => one - other);
  const whole = taken.filter(({ copy }) => problemsOf(copy).length === 0).length;
  const counts = Object.entries(taken.at(-1)?.copy ?? {}).map(([name, { count }]) => `${name} ${count}`);
  t.comment(`${type}: ${whole} of ${taken.length} paused copies are consistent; transfers in the last: ${counts.join(', ')}`);
  t.comment(`${type}: pauses: shortest ${pauses[0]}, median ${pauses[pauses.length >> 1]}, longest ${pauses.at(-1)} ms`);
}

async function tryPaused(t: Test, machine: Machine): Promise<void> {
  const bed = await makeBed(a, machine, { container: 'bank', name: `${machine.type}-paused`, pause: true, retention });
  const taken: Copied[] = [];
  const byBlocks = new Set<string>();
  const newBases = Math.floor(paused / 2);
  for (let n = 0; n < paused; n++) {
    if (n === newBases) await bed.exclude('no-such');
    const copied = await copyPaused(t, bed, taken.at(-1));
    const levels = n === 0 || n === newBases ? [0, 1] : [0, 1, 2];
    t.same(levelsOf(copied.run), [levels, levels], 'levels of the root and of the volume');
    for (const file of await filesByBlocks(bed, copied.run)) byBlocks.add(nameOf(file));
    taken.push(copied);
  }
  tell(t, machine.type, taken);
  t.comment(`stored by blocks: ${[...byBlocks].sort().join(', ')}`);
  const isByBlocks = (file: RegExp) => [...byBlocks].some((one) => file.test(one));
  for (const file of [/^srv.bank.bank.db$/, /^postgresql.base/, /^postgresql.pg_wal/])
    t.ok(isByBlocks(file), `${file.source} is stored by blocks`);
  const old = taken.slice(0, newBases).flatMap(({ run }) => basesOf(run));
  const left = (await readdir(bed.record, { recursive: true })).filter((path) => old.includes(path));
  t.same(left, [], 'retention has removed the old bases with their runs');
  const oldest = taken.at(-retention);
  if (oldest) await spoilCopy(t, bed, oldest);
}

/** Compares a copy with an earlier one of the same run, and proves that the audit finds a broken invariant of each database. */
async function spoilCopy(t: Test, bed: Bed, { run, copy }: Copied): Promise<void> {
  const { audit, spoil } = bed.machine;
  await bed.copyOf(run, async (name) => {
    t.same(await audit(name), copy, 'the oldest run that is left comes back as before');
    await spoil(name);
    const found = Object.values(await audit(name)).filter(({ problems }) => problems.length > 0);
    t.equal(found.length, Object.keys(copy).length, 'the audit finds what is spoiled in each database');
  });
}

async function tryLive(t: Test, machine: Machine): Promise<void> {
  const bed = await makeBed(a, machine, { container: 'bank', name: `${machine.type}-live`, pause: false });
  const torn: string[][] = [];
  let taken = 0;
  for (; taken < live || (taken < 5 && !torn.some(ofSqlite)); taken++) {
    const problems = await copyLive(t, bed);
    if (problems.length > 0) torn.push(problems);
  }
  const names = torn.flatMap((problems) => [...new Set(problems.map((one) => one.split(':')[0] ?? ''))]);
  const broken = [...new Set(names)].map((name) => `${name} in ${names.filter((one) => one === name).length}`);
  t.comment(`${machine.type}: ${torn.length} of ${taken} copies without a pause are broken: ${broken.join(', ')}`);
  t.ok(torn.some(ofSqlite), 'an audit that finds nothing would prove nothing');
}

const root = await makeRoot(a.folder, all);
for (const machine of [lxcMachine(a, root), dockerMachine(dockerd, root)]) {
  if (!isWanted(machine.type)) continue;
  t.test(`databases in a container of ${machine.type}`, async (t) => {
    await machine.make('bank', seed);
    await t.test('each run with a pause comes back consistent, on old and new bases, and after retention has removed others', (t) =>
      tryPaused(t, machine),
    );
    await t.test('each run without a pause whose SQLite comes back broken has warned of it by name', (t) => tryLive(t, machine));
    await machine.remove('bank');
  });
}
