/** The disk of the state, of the share, or both are full while a service backs up. Reads work, a run without space fails with
 *  no_space, nothing on the share is damaged, and the service recovers by itself when there is space. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Body, hasEnded, notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { pointsOf } from '../../support/depth.js';
import { checkRecord, listedRuns, runNames } from '../crash/record.js';
import { until } from '../pause/python-container.js';
import { type SmallDisk, smallDisk } from './small-disk.js';

const { serviceLevels: levels } = pointsOf('state');
/** Bytes of a run's incompressible data. */
const dataBytes = 1 << 20;
/** Free bytes at the highest level: enough for a run on the share, and for its work files on the disk of the state. */
const most = { state: 80_000, share: 1_800_000 } as const;

const bodyOf = (name: string, at: Body): Body => ({
  ...{ job_name: name, container_id: 'web', type: 'lxc', dest: { target: 'local', path: '/test/full' }, at },
});

interface Bed {
  readonly a: Appliance;
  readonly disks: readonly { readonly disk: SmallDisk; readonly most: number }[];
  readonly job: number;
  readonly counts: Record<string, number>;
}

async function makeBed(t: Test, full: readonly ('state' | 'share')[]): Promise<Bed> {
  const disks = { state: await smallDisk(t, full.length === 2 ? 'ext4' : 'tmpfs'), share: await smallDisk(t, 'ext4', 128) };
  const a = await makeAppliance(t, { stateFolder: join(disks.state.folder, 'state'), shares: { test: disks.share.folder } });
  await a.lxc('web');
  const job = await a.service.create('backup', bodyOf('web', notSoon()));
  await a.service.backUp(job);
  return { a, job, disks: full.map((name) => ({ disk: disks[name], most: most[name] })), counts: {} };
}

const fill = ({ disks }: Bed, part: number): Promise<unknown> =>
  Promise.all(disks.map(({ disk, most }) => disk.fill(Math.floor(part * most))));
const empty = ({ disks }: Bed): Promise<unknown> => Promise.all(disks.map(({ disk }) => disk.empty()));

/** Waits for a run's end. @param again is called repeatedly meanwhile, which uses up the reserve, too */
async function endOf({ a: { service }, job }: Bed, again: () => Promise<unknown>): Promise<Body> {
  for (;;) {
    const state = part(await service.call('GET', `/backup/${job}?view=full`), 'state');
    if (hasEnded(state)) return state;
    await again();
    await sleep(20);
  }
}

/** Problems of the end of a run: on a full disk only success and no_space are allowed. */
function problemOf(state: Body): string[] {
  return state.result === 0 || part(state.error, 'code') === 'no_space' ? [] : [`the run ended with ${JSON.stringify(state)}`];
}

function count({ counts }: Bed, what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}

/** Problems of the answers of a service on full disks. */
async function problemsOfAnswers(bed: Bed): Promise<string[]> {
  const { service } = bed.a;
  const problems: string[] = [];
  for (const path of ['/api/v1/backup/', `/api/v1/backup/${bed.job}`, '/healthz', '/readyz']) {
    const { status } = await fetch(`${service.address}${path}`, { headers: { cookie: service.cookie } });
    if (status !== 200) problems.push(`${path} answered ${status}`);
  }
  const { status, text, json } = await service.ask('POST', '/backup/', bodyOf('more', notSoon()));
  const isTold = status === 507 && /no room in \S+: \d+ bytes are free and \d+ are needed/.test(text);
  if (status !== 200 && !isTold) problems.push(`POST answered ${status} ${text}`);
  count(bed, `POST ${status}`);
  if (status === 200) await service.call('DELETE', `/backup/${part(json, 'id')}`);
  return problems;
}

/** Runs a backup while the disks are full: from its beginning, or from a later point on and then without the reserve, too. */
async function problemsOfLevel(bed: Bed, level: number): Promise<string[]> {
  const { a, job } = bed;
  const free = level / levels;
  const isLate = level % 2 === 1;
  const before = runNames(await listedRuns(a.service, job));
  await writeFile(join(a.lxcPath, 'web/volumes/data/file'), randomBytes(dataBytes));
  if (!isLate) await fill(bed, free);
  const { status, text } = await a.service.ask('PUT', `/backup/${job}/run`);
  const problems = status === 200 || status === 507 ? [] : [`PUT answered ${status} ${text}`];
  if (isLate) await sleep(level * 37);
  await fill(bed, free);
  problems.push(...(await problemsOfAnswers(bed)));
  const state = await endOf(bed, async () => isLate && fill(bed, free));
  if (status === 200) problems.push(...problemOf(state));
  count(bed, status === 200 ? `run ${state.result === 0 ? 'good' : 'no_space'}` : `PUT ${status}`);
  problems.push(...(await problemsOfRecord(bed, before)));
  await empty(bed);
  await until('a run is taken', async () => (await a.service.ask('PUT', `/backup/${job}/run`)).status === 200);
  await a.service.ended('backup', job);
  return [...problems, ...(await problemsOfRecord(bed, before))];
}

async function problemsOfRecord({ a, job }: Bed, before: readonly string[]): Promise<string[]> {
  const { problems } = await checkRecord(a.service, job, join(a.share, 'full/container-backup@web'));
  const listed = runNames(await listedRuns(a.service, job));
  return [...problems, ...before.filter((run) => !listed.includes(run)).map((run) => `${run} is not listed any more`)];
}

/** A job that is due while the disks are full. */
async function comesDue(t: Test, bed: Bed): Promise<void> {
  const { service } = bed.a;
  const start = Math.ceil(Date.now() / 1000) + 1;
  const id = await service.create('backup', bodyOf('due', { repeat: 'oneshot', start }));
  await fill(bed, 0);
  const state = await service.settled('backup', id);
  t.same(problemOf(state), [], 'a job that is due meanwhile says how it ended');
  await empty(bed);
  await until('its run is taken', async () => (await service.ask('PUT', `/backup/${id}/run`)).status === 200);
  await service.ended('backup', id);
}

for (const full of [['state'], ['share'], ['state', 'share']] as const) {
  const name = full.join(' and ');
  t.test(`a full disk of the ${name} ends runs with an error, and the next run is good, at any level`, async (t) => {
    const bed = await makeBed(t, full);
    await comesDue(t, bed);
    for (let level = 0; level < levels; level++) t.same(await problemsOfLevel(bed, level), [], `level ${level} of ${levels}`);
    const { a, job } = bed;
    const shown = await a.service.call('GET', `/backup/${job}?view=full`);
    await a.restart({ kill: true });
    t.same(await a.service.call('GET', `/backup/${job}?view=full`), shown, 'the last result was kept');
    t.comment(JSON.stringify(bed.counts));
  });
}
