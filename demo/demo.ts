/** Backs up an LXC and a Docker container while they run, harms them, restores and clones them, and compares. */
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Body, notSoon } from '../test/support/api-client.js';
import { DemoService } from '../test/support/demo-client.js';
import { differences, type Snapshot, snapshotOf } from '../test/support/fidelity.js';
import { changeTree, makeNastyTree } from '../test/support/nasty-tree.js';
import { DockerSubject, LxcSubject, type Places, type Subject } from './subjects.js';

interface Row {
  readonly what: string;
  readonly size: string;
  readonly 'pause ms': string;
  readonly seconds: string;
  readonly differences: string;
}

const rows: Row[] = [];
let found = 0;
const say = (text: string): void => console.log(text);

function addRow(what: string, state: Body, differing?: readonly string[]): void {
  const number = (key: string) => (typeof state[key] === 'number' ? state[key] : undefined);
  const bytes = number('bytes');
  const duration = number('duration');
  rows.push({
    what,
    size: bytes === undefined ? '' : `${(bytes / 1e6).toFixed(2)} MB`,
    'pause ms': number('pause_ms')?.toFixed(0) ?? '',
    seconds: duration === undefined ? '' : (duration / 1000).toFixed(1),
    differences: differing ? String(differing.length) : '',
  });
  for (const line of differing?.slice(0, 20) ?? []) say(`    ${line}`);
  found += differing?.length ?? 0;
}

type Trees = Readonly<Record<'root' | 'volume', Map<string, Snapshot>>>;

/** All of the root and of the volume, but for what the container's own start writes. */
async function treesOf(subject: Subject, container: string): Promise<Trees> {
  const { root, volume } = await subject.places(container);
  const kept = [...(await snapshotOf(root))].filter(([name]) => !subject.written.test(name));
  return { root: new Map(kept), volume: await snapshotOf(volume) };
}

function compare(before: Trees, after: Trees): string[] {
  return [
    ...differences(before.root, after.root).map((line) => `root ${line}`),
    ...differences(before.volume, after.volume).map((line) => `volume ${line}`),
  ];
}

async function backUp(service: DemoService, subject: Subject, job: number, what: string): Promise<void> {
  say(`${subject.type}: ${what} …`);
  await service.call('PUT', `/backup/${job}/run`);
  addRow(`${subject.type}: ${what}`, await service.ended('backup', job));
  say(`${subject.type}: ${what} done`);
}

async function restore(service: DemoService, subject: Subject, container: string, what: string, before: Trees): Promise<void> {
  say(`${subject.type}: ${what} …`);
  const src = { target: 'local', path: `/test/${subject.type}`, portfolio: subject.name };
  const id = await service.create('restore', { job_name: `${what} ${container}`, container_id: container, type: subject.type, src });
  const state = await service.ended('restore', id);
  const differing = compare(before, await treesOf(subject, container));
  say(`${subject.type}: ${what} done, ${differing.length} differences`);
  addRow(`${subject.type}: ${what}`, state, differing);
}

/** What a restore must not touch: the folder that the job leaves out is as it was, and the shared volume is still one. */
async function checkNeighbourhood(subject: Subject, container: string, media: Map<string, Snapshot>): Promise<void> {
  const [own, others] = [await subject.places(container), await subject.places(subject.neighbour)];
  addRow(`${subject.type}: its media folder, left out by the job`, {}, differences(media, await snapshotOf(own.media)));
  const isOne = own.volume === others.volume;
  const expected = container === subject.name;
  const what = expected ? 'the volume that it shares is one with its neighbour' : 'has a volume of its own';
  addRow(`${subject.type}: ${what}`, {}, isOne === expected ? [] : [`${own.volume} and ${others.volume}`]);
}

/** What a careless hand does to a container. */
async function harm(places: Places): Promise<void> {
  for (const folder of [places.data, places.volume]) {
    await fs.rm(join(folder, 'many'), { recursive: true });
    await fs.writeFile(join(folder, 'setuid'), 'overwritten');
    await fs.writeFile(join(folder, 'rubbish'), 'was never there');
  }
}

async function show(service: DemoService, subject: Subject): Promise<void> {
  const places = await subject.places(subject.name);
  for (const folder of [places.data, places.volume]) await makeNastyTree(folder);
  await fs.writeFile(join(places.media, 'film'), 'too large for a backup');
  const { root, volume } = await treesOf(subject, subject.name);
  say(`${subject.type}: ${subject.name} runs, with ${root.size + volume.size} entries, many of them hard to keep`);
  const job = await service.create('backup', {
    job_name: subject.name,
    container_id: subject.name,
    type: subject.type,
    dest: { target: 'local', path: `/test/${subject.type}` },
    at: notSoon(),
    features: ['compress', 'pause'],
    exclude: [`${subject.mediaSource}:*`],
  });
  await backUp(service, subject, job, 'first backup');
  for (const folder of [places.data, places.volume]) await changeTree(folder);
  const before = await treesOf(subject, subject.name);
  await backUp(service, subject, job, 'second backup, after changes');
  await harm(places);
  const media = await snapshotOf(places.media);
  await restore(service, subject, subject.name, 'restored in place', before);
  await checkNeighbourhood(subject, subject.name, media);
  await restore(service, subject, subject.clone, 'restored as a clone', before);
  await checkNeighbourhood(subject, subject.clone, media);
}

async function demo(folder: string): Promise<void> {
  const share = join(folder, 'share');
  await fs.mkdir(share);
  await fs.chmod(folder, 0o755);
  await using lxc = new LxcSubject(join(folder, 'lxc'), join(folder, 'volumes'));
  await using docker = new DockerSubject(join(folder, 'docker'));
  await lxc.create();
  await docker.create();
  const stateFolder = join(folder, 'state');
  await using service = await DemoService.start({ stateFolder, shares: { test: share }, lxcPath: lxc.path, dockerSocket: docker.socket });
  say(`the service answers at ${service.address}`);
  for (const subject of [lxc, docker]) await show(service, subject);
}

const folder = await fs.mkdtemp(join(tmpdir(), 'cb-demo-'));
try {
  await demo(folder);
  console.table(rows);
  say(found === 0 ? 'everything came back as it was' : `${found} differences`);
  process.exitCode = found === 0 ? 0 : 1;
} catch (error) {
  console.table(rows);
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await fs.rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}
