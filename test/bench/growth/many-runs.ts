/** Times with a record of many runs: until a run stores its first byte, and for a list, both by the API. The container has few files,
 *  so that only the record takes time. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, utimes, watch, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isRunName, runName, runTime } from '../../../core/archive/index.js';
import { type Body, notSoon, part } from '../../support/api-client.js';
import { DemoService } from '../../support/demo-client.js';
import { destroyLxc, makeLxcContainer, makeLxcPath } from '../../support/lxc.js';
import { jsonIn, withHash } from '../../support/manifest-file.js';
import { Smbd } from '../../support/servers/smbd.js';
import { delayedWay } from '../remote/servers.js';

const run = promisify(execFile);
const name = 'many';
/** Time limit of a run; the bench does not wait longer. */
const limitMs = 200_000;

export interface RunsCase {
  /** A built checkout: this one, or an earlier one to compare with. */
  readonly checkout: string;
  readonly runs: number;
  /** Milliseconds of a round trip to an SMB server; without it, a share of this machine. */
  readonly smb?: number;
}

/** Milliseconds; undefined when the limit ran out or the request was refused. */
interface Figure {
  readonly first: number | undefined;
  readonly whole: number | undefined;
  readonly list: number | undefined;
}

export interface RunsFigures {
  /** With an empty index; not measured where reading all manifests takes too long. */
  readonly without: Figure;
  /** With the index that the run before wrote. */
  readonly indexed: Figure;
  /** Peak resident memory of the service, MiB. */
  readonly memory: number;
}

interface Bed {
  readonly service: DemoService;
  readonly job: number;
  /** The record's folder on this machine. */
  readonly record: string;
}

/** Makes so many runs before the newest. Each is a copy of the newest: a manifest, and a file for each archive in its folder. */
async function fill(record: string, count: number): Promise<void> {
  const newest = (await readdir(record)).filter(isRunName).sort().at(-1) ?? '';
  const json = jsonIn(await readFile(join(record, newest, 'manifest.json'), 'utf8'));
  const archives = (await readdir(join(record, newest))).filter((file) => file !== 'manifest.json');
  for (let n = 1; n <= count; n++) {
    const older = runName(runTime(newest) - n * 3_600_000 - 86_400_000);
    await mkdir(join(record, older));
    for (const file of archives) await writeFile(join(record, older, file), '');
    await writeFile(join(record, older, 'manifest.json'), withHash(json.replaceAll(newest, older)));
  }
  await run('chown', ['-R', '--reference', record, record]);
  // Sets older times: a folder that was just written may change again within the same second, so the record's index does not trust it.
  const then = Math.floor(Date.now() / 1000) - 60;
  for (const name of (await readdir(record)).filter(isRunName)) await utimes(join(record, name), then, then);
}

/** Waits for the first byte: the run's new folder appears with it. */
async function firstByte(record: string, began: number, signal: AbortSignal): Promise<number | undefined> {
  try {
    for await (const { filename } of watch(record, { signal })) {
      if (filename !== null && isRunName(filename)) return performance.now() - began;
    }
  } catch {} // the limit ran out
  return undefined;
}

async function listed({ service, job }: Bed): Promise<number | undefined> {
  const began = performance.now();
  const { status } = await service.ask('GET', `/backup/${job}/runs`);
  return status === 200 ? performance.now() - began : undefined;
}

const nothing: Figure = { first: undefined, whole: undefined, list: undefined };

/** Measures a list and the run after it. */
async function oneRun(bed: Bed): Promise<Figure> {
  const { service, job, record } = bed;
  const list = await listed(bed);
  const stop = new AbortController();
  const began = performance.now();
  const first = firstByte(record, began, stop.signal);
  await service.call('PUT', `/backup/${job}/run`);
  const whole = await service.ended('backup', job, limitMs).then(
    () => performance.now() - began,
    () => undefined,
  );
  stop.abort();
  return { first: await first, whole, list };
}

type Ends = (() => unknown)[];

/** Makes the index on the server's own disk: over a slow network, so many manifests take longer to read than the limit. */
const mostOverWay = 1000;

/** The server's folder, and the target as POST /target takes it. */
async function smbServer(roundTrip: number, ends: Ends): Promise<{ readonly folder: string; readonly body: Body }> {
  const smbd = await Smbd.start({ global: ['server signing = mandatory'] });
  ends.push(() => smbd[Symbol.asyncDispose]());
  const way = await delayedWay(smbd.port, roundTrip);
  ends.push(() => way[Symbol.dispose]());
  const { user: username, password, share, folder } = smbd;
  return { folder, body: { name: 'nas', type: 'smb', ipaddr: `127.0.0.1:${way.port}`, username, password, base: `/${share}` } };
}

async function memoryOf(pid: number): Promise<number> {
  return Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

export async function measureRuns(o: RunsCase, work: string): Promise<RunsFigures> {
  const ends: Ends = [];
  try {
    return await measured(o, join(work, 'many-runs'), ends);
  } finally {
    for (const end of ends.reverse()) await end();
  }
}

async function measured(o: RunsCase, folder: string, ends: Ends): Promise<RunsFigures> {
  await rm(folder, { recursive: true, force: true });
  const server = o.smb === undefined ? undefined : await smbServer(o.smb, ends);
  const share = server?.folder ?? join(folder, 'share');
  await mkdir(share, { recursive: true });
  const lxcPath = await makeLxcPath();
  ends.push(() => rm(lxcPath, { recursive: true, force: true }));
  await makeLxcContainer(lxcPath, name);
  ends.push(() => destroyLxc(lxcPath, name));
  const options = { stateFolder: join(folder, 'state'), shares: { bench: share }, lxcPath, checkout: o.checkout, quiet: true };
  const service = await DemoService.start(options);
  ends.push(() => service[Symbol.asyncDispose]());
  const profile = server && part(await service.call('POST', '/target', server.body), 'id');
  const local = { target: 'local', path: '/bench/runs' };
  const dest = server ? { target: 'remote', profile, path: '/runs' } : local;
  const job = await service.create('backup', {
    job_name: name,
    container_id: name,
    type: 'lxc',
    dest,
    at: notSoon(),
    disable: true,
    features: ['compress'],
  });
  const bed = { service, job, record: join(share, 'runs', `container-backup@${name}`) };
  for (let n = 0; n < 2; n++) await service.backUp(job); // a base, and a level on it
  await fill(bed.record, o.runs);
  const isIndexedNear = server !== undefined && o.runs > mostOverWay;
  const without = isIndexedNear ? nothing : await oneRun(bed);
  if (isIndexedNear) {
    await service.call('PUT', `/backup/${job}`, { dest: local });
    await service.backUp(job);
    await service.call('PUT', `/backup/${job}`, { dest });
  }
  const indexed = isIndexedNear || without.whole !== undefined ? await oneRun(bed) : nothing;
  return { without, indexed, memory: await memoryOf(service.pid) };
}
