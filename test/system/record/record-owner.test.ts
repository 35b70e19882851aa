/** The owner of a record: real containers of two appliances, and of two jobs of one appliance, whose locations lead to the same folder. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type Body, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { changeManifestFile, readManifestFile } from '../../support/manifest-file.js';
import { startRemote } from '../../support/servers/remotes.js';
import { allIn, list } from '../bed/request-bodies.js';
import { type LocationWish, levelsOf, makeJob, restore, settle } from '../fidelity/bench.js';
import { faultsOf } from '../remote/record.js';

const exec = promisify(execFile);
const one = await makeAppliance(t);
const two = await makeAppliance(t, { shares: { test: one.share } });
const both = [one, two] as const;
t.jobs = 3; // each has containers of its own and mostly waits

/** A record of jobs on both appliances, each with a container of that name. */
interface Shared {
  readonly name: string;
  readonly job: readonly [number, number];
  /** Its folder on this machine. */
  readonly folder: string;
}

const locations = (path: string): readonly [LocationWish, LocationWish] => [
  { target: 'local', path },
  { target: 'local', path },
];

async function shared(name: string, root = join(one.share, name), at = locations(`/test/${name}`)): Promise<Shared> {
  // Stopped: LXC renames a container with the name of another running one.
  for (const a of both) await a.lxc(name, { stopped: true });
  const jobs = both.map(({ service }, n) => makeJob(service, { name, container: name, type: 'lxc', location: at[n] ?? at[0] }));
  const [first = 0, second = 0] = await Promise.all(jobs);
  return { name, job: [first, second], folder: join(root, `container-backup@${name}`) };
}

const dataOf = (a: Appliance, { name }: Pick<Shared, 'name'>): string => join(a.lxcPath, name, 'volumes/data/file');

async function run(a: Appliance, id: number): Promise<Body> {
  await a.service.call('PUT', `/backup/${id}/run`);
  return a.service.settled('backup', id);
}

async function idOf(a: Appliance, id: number): Promise<string> {
  const [newest] = list(await a.service.call('GET', `/backup/${id}/runs`));
  const manifest = await a.service.call('GET', `/backup/${id}/runs/${part(newest, 'run')}`);
  return String(part(part(manifest, 'seal'), 'appliance'));
}

const takeOver = (a: Appliance, id: number) => a.service.ask('PUT', `/backup/${id}/take-over?view=full`);

/** Content of the volume's file in a run, read with tar alone. */
async function textIn(folder: string, run: unknown): Promise<string> {
  const manifest = await readManifestFile(join(folder, String(run), 'manifest.json'));
  const archives = list(manifest.archives).filter((one) => part(one, 'source') === 'data');
  const out = await mkdtemp(join(tmpdir(), 'by-hand-'));
  try {
    for (const archive of archives)
      await exec('tar', ['--listed-incremental=/dev/null', '-xf', join(folder, String(part(archive, 'path'))), '-C', out]);
    return await readFile(join(out, 'file'), 'utf8');
  } finally {
    await rm(out, { recursive: true });
  }
}

interface Round {
  readonly text: string;
  readonly states: readonly Body[];
}

/** In each round, each container gets a text of its own. */
async function round(n: number, record: Shared, atOnce: boolean): Promise<Round> {
  for (const [index, a] of both.entries()) await writeFile(dataOf(a, record), `of ${index} in round ${n}`);
  const runs = both.map((a, index) => () => run(a, record.job[index] ?? 0));
  if (atOnce) return { text: `in round ${n}`, states: await Promise.all(runs.map((each) => each())) };
  const states: Body[] = [];
  for (const each of runs) states.push(await each());
  return { text: `in round ${n}`, states };
}

async function compete(t: Test, record: Shared, rounds: number): Promise<{ readonly owner: 0 | 1 }> {
  const told: { readonly run: unknown; readonly text: string }[] = [];
  let owner: 0 | 1 | undefined;
  for (let n = 0; n < rounds; n++) {
    const { text, states } = await round(n, record, n < rounds / 2);
    owner ??= states[0]?.result === 0 ? 0 : 1;
    told.push({ run: states[owner]?.run, text: `of ${owner} ${text}` });
    t.match(states[owner], { result: 0 }, `round ${n}: whose record it is goes on`);
    const appliance = await idOf(both[owner], record.job[owner]);
    const error = { code: 'record_owned', message: new RegExp(`job ${record.job[owner]} .* of another appliance, ${appliance}`) };
    t.match(states[1 - owner], { result: -1, error, owner: { appliance, job: record.job[owner] } }, `round ${n}: the other one is told`);
  }
  for (const { run, text } of told) {
    t.same(await faultsOf(record.folder, '', String(run)), [], `${run} is whole`);
    t.equal(await textIn(record.folder, run), text, `${run} holds what its own container held`);
  }
  t.equal(new Set(told.map((each) => each.run)).size, rounds);
  t.same(
    (await readdir(record.folder)).filter((name) => name.startsWith('.')),
    [],
    'no lock is left',
  );
  return { owner: owner ?? 0 };
}

t.test('only the owner of a record writes to it, over 20 rounds of two appliances', async (t) => {
  const record = await shared('web');
  const { owner } = await compete(t, record, 20);
  const [own, other] = [both[owner], both[owner === 0 ? 1 : 0]];
  const [ownJob, otherJob] = [record.job[owner], record.job[1 - owner] ?? 0];
  const before = await allIn(record.folder);
  const purged = await other.service.ask('DELETE', `/backup/${otherJob}?purge=true`);
  t.match([purged.status, purged.text], [409, /belongs to job .*take-over/], 'nor does the other one delete it');
  t.same(await allIn(record.folder), before);
  t.match((await takeOver(own, ownJob)).status, 409, 'the owner has nothing to take over');
  t.match(await own.service.call('GET', `/backup/${ownJob}?view=full`), { state: { result: 0, take_over: undefined } });
});

t.test('only the owner of a record on a server writes to it', async (t) => {
  const bed = await startRemote(t, 'sftp');
  const profiles = await Promise.all(both.map(({ service }) => service.call('POST', '/target', bed.body)));
  const [first, second] = profiles.map((made): LocationWish => ({ target: 'remote', path: bed.path, profile: Number(part(made, 'id')) }));
  if (!first || !second) throw new Error('two targets');
  const record = await shared('served', bed.root, [first, second]);
  const { owner } = await compete(t, record, 4);
  const other = owner === 0 ? 1 : 0;
  t.equal((await takeOver(both[other], record.job[other])).status, 200);
  t.match(await run(both[other], record.job[other]), { result: 0 });
  t.match(await run(both[owner], record.job[owner]), { error: { code: 'record_owned' } }, 'it is the other one that is told now');
});

t.test('a take-over makes another job the owner, from the named one only, and its first run uses new bases', async (t) => {
  const record = await shared('given');
  const [first, second] = record.job;
  await writeFile(dataOf(one, record), 'of one');
  await writeFile(dataOf(two, record), 'of two');
  await settle();
  t.match(await run(one, first), { result: 0 });
  t.match((await takeOver(two, second)).status, 409, 'not before it was told whose it is');
  t.match(await run(two, second), { error: { code: 'record_owned' } });
  const owner = { appliance: await idOf(one, first), job: first };
  t.match([await takeOver(two, second)], [{ status: 200, json: { state: { owner, take_over: owner } } }]);
  const taken = await run(two, second);
  t.match(taken, { result: 0, owner: undefined, take_over: undefined, warnings: undefined });
  for (const source of ['rootfs', 'data'])
    t.match(await levelsOf(two.service, second, String(taken.run), source), [new RegExp(`^0 .*${taken.run}`)], `${source} anew`);
  t.equal(await textIn(record.folder, taken.run), 'of two');
  t.match(await levelsOf(two.service, second, String((await run(two, second)).run), 'data'), [/^0 /, /^1 /], 'and then on its own');

  const back = await run(one, first);
  t.match(back, { error: { code: 'record_owned' }, owner: { appliance: await idOf(two, second), job: second } }, 'the first one is told');
  await takeOver(one, first);
  await two.service.call('DELETE', `/backup/${second}`);
  const anew = await makeJob(two.service, {
    name: 'given',
    container: 'given',
    type: 'lxc',
    location: { target: 'local', path: '/test/given' },
  });
  t.match(await run(two, anew), { result: 0, warnings: undefined }, 'a job that was made anew goes on without a word');
  t.match(await run(one, first), { error: { code: 'record_owned' }, take_over: undefined }, 'what was named is not the owner any more');
  await takeOver(one, first);
  await one.service.call('PUT', `/backup/${first}`, { retention: 2 });
  t.match(await run(one, first), { result: 0 }, 'the edit was of something else');

  t.match(await run(two, anew), { error: { code: 'record_owned' } });
  await takeOver(two, anew);
  await two.service.call('PUT', `/backup/${anew}`, { dest: { target: 'local', path: '/test/elsewhere' } });
  t.match(await two.service.call('GET', `/backup/${anew}?view=full`), { state: { owner: undefined, take_over: undefined } });
  t.equal((await takeOver(two, anew)).status, 409, 'a word about one record says nothing of another');
});

t.test('a purge deletes a record that was taken over, and continues after a failure', async (t) => {
  const record = await shared('purged');
  const [first, second] = record.job;
  const { run: foreign } = await run(one, first);
  await run(two, second);
  await takeOver(two, second);
  await run(two, second);
  t.equal((await one.service.ask('DELETE', `/backup/${first}?purge=true`)).status, 409);
  const stuck = join(record.folder, String(foreign), 'manifest.json');
  await exec('mount', ['--bind', stuck, stuck]);
  try {
    t.match((await two.service.ask('DELETE', `/backup/${second}?purge=true`)).text, /in use|busy/i);
  } finally {
    await exec('umount', [stuck]);
  }
  t.same((await two.service.ask('DELETE', `/backup/${second}?purge=true`)).json, [second]);
  t.same(await readdir(join(one.share, 'purged')), []);
  t.match(await run(one, first), { result: 0 }, 'the record is free');
});

t.test('two jobs of one appliance whose locations become one folder do not share its record', async (t) => {
  const at = (path: string): LocationWish => ({ target: 'local', path: `/test/${path}` });
  const wish = { name: 'alias', container: 'alias', type: 'lxc' } as const;
  await mkdir(join(one.share, 'linked'));
  const real = await makeJob(one.service, { ...wish, location: at('real') });
  const linked = await makeJob(one.service, { ...wish, container: 'second', location: at('linked') });
  for (const name of ['alias', 'second']) await one.lxc(name, { stopped: true });
  await rmdir(join(one.share, 'linked'));
  await mkdir(join(one.share, 'real'));
  await symlink('real', join(one.share, 'linked'));
  const states = await Promise.all([run(one, real), run(one, linked)]);
  const [good, refused] = states[0].result === 0 ? ([real, linked] as const) : ([linked, real] as const);
  t.match(states.find(({ result }) => result !== 0)?.error, {
    code: 'record_owned',
    message: new RegExp(`job ${good} .* of this appliance.*/backup/${refused}/take-over`),
  });
  t.equal((await one.service.ask('DELETE', `/backup/${refused}?purge=true`)).status, 409);
  t.match(await run(one, good), { result: 0 });
  await run(one, refused);
  t.equal((await takeOver(one, refused)).status, 200);
  const taken = await run(one, refused);
  t.match(taken, { result: 0 });
  for (const source of ['rootfs', 'data'])
    t.match(
      await levelsOf(one.service, refused, String(taken.run), source),
      [new RegExp(`^0 .*${taken.run}`)],
      `${source} of another container`,
    );
  t.match(await run(one, good), { error: { code: 'record_owned' } });
  await one.service.call('DELETE', `/backup/${refused}`);
  t.match(await run(one, good), { result: 0 }, 'what a job that is gone left goes on');
});

t.test('a run without a seal names no owner, and the newest usable run names the owner', async (t) => {
  const record = await shared('told');
  const [first, second] = record.job;
  const manifestOf = (run: unknown) => join(record.folder, String(run), 'manifest.json');
  const { run: unsealed } = await run(one, first);
  await changeManifestFile(manifestOf(unsealed), ({ seal: _, ...manifest }) => manifest);
  const { run: sealed } = await run(two, second);
  t.match(await two.service.call('GET', `/backup/${second}`), { state: { result: 0 } });
  t.match(await run(one, first), { error: { code: 'record_owned' } });
  await takeOver(one, first);
  const { run: newest } = await run(one, first);
  await writeFile(manifestOf(newest), 'not what was written');
  t.match(await run(one, first), { error: { code: 'record_owned', message: new RegExp(`newest run is ${sealed}`) } });
  t.match(await run(two, second), { result: 0 }, 'the owner of the newest one that can be used goes on');
});

t.test('a new appliance restores a run of an old one, takes the record over and adds runs', async (t) => {
  const record = await shared('left');
  const [first, second] = record.job;
  await writeFile(dataOf(one, record), 'of the old one');
  await run(one, first);
  await run(two, second);
  const src = { portfolio: 'left', container: 'moved', type: 'lxc', location: { target: 'local', path: '/test/left' } } as const;
  two.alsoDestroy('moved');
  await restore(two.service, src);
  t.equal(
    await readFile(join(two.lxcPath, 'moved/volumes/data/file'), 'utf8'),
    'of the old one',
    'whose record it is says nothing of reading',
  );
  await takeOver(two, second);
  t.match(await run(two, second), { result: 0 });
  t.equal(list(await two.service.call('GET', `/backup/${second}/runs`)).length, 2, 'the older runs are there');
});
