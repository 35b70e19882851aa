/** Files and folders with the flags immutable, append-only or no-dump. A backup stores the flags, and they stop no step of a restore. */
import { appendFile, chmod, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { unlockTree } from '../../../plugins/shared/mounts.js';
import { part } from '../../support/api-client.js';
import { type Appliance, makeAppliance, ownDockerd } from '../../support/appliance.js';
import { chattr, flagsIn } from '../../support/inode-flags.js';
import { startLxc } from '../../support/lxc.js';
import { backUp, makeJob, type RestoreWish, restore } from './bench.js';

type Kind = 'lxc' | 'docker';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');

interface Subject {
  readonly a: Appliance;
  readonly kind: Kind;
  readonly name: string;
  /** Current paths of its root, its volume and its folder of the host. */
  places(container?: string): Promise<readonly string[]>;
  /** Breaks the root so that it cannot start, or repairs it. */
  breakRoot(broken: boolean): Promise<void>;
}

async function lxcSubject(t: Test, name: string): Promise<Subject> {
  const a = await makeAppliance(t);
  t.teardown(() => Promise.all([a.lxcPath, a.folder].map(unlockTree)));
  const host = join(a.folder, 'host');
  await mkdir(host);
  await chmod(a.folder, 0o755); // a root with shifted ids must reach its mounts
  await a.lxc(name, { stopped: true, lines: [`lxc.mount.entry = ${host} srv none bind,create=dir 0 0`] });
  const init = join(a.lxcPath, name, 'rootfs/sbin/init');
  return {
    ...{ a, kind: 'lxc', name },
    places: async (container = name) => [
      join(a.lxcPath, container, 'rootfs'),
      join(a.lxcPath, container, 'volumes/data'),
      container === name ? host : `${host}.${container}`,
    ],
    breakRoot: (broken) => (broken ? rename(init, `${init}-away`) : rename(`${init}-away`, init)),
  };
}

async function dockerSubject(t: Test, name: string): Promise<Subject> {
  const a = await makeAppliance(t, { dockerd: docker });
  t.teardown(() => Promise.all([join(docker.folder, 'd'), a.folder].map(unlockTree)));
  const host = join(a.folder, 'host');
  await mkdir(host);
  const HostConfig = { NetworkMode: 'none', Binds: [`${name}-data:/data`, `${host}:/srv`] };
  await docker.run(name, { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL', HostConfig });
  await docker.exec(name, 'mkdir /etc/own');
  return {
    ...{ a, kind: 'docker', name },
    async places(container = name) {
      const inspect = fields(await docker.client.json('GET', `/containers/${container}/json`));
      const mounts = new Map(items(inspect.Mounts).map((mount) => [text(fields(mount).Destination), text(fields(mount).Source)]));
      return [text(fields(fields(inspect.GraphDriver).Data).UpperDir), mounts.get('/data') ?? '', mounts.get('/srv') ?? ''];
    },
    async breakRoot(broken) {
      await docker.exec(name, broken ? '/bin/busybox rm /bin/sleep' : '/bin/busybox ln -s busybox /bin/sleep');
    },
  };
}

/** Makes immutable files, append-only logs and immutable folders, at the top and deeper. */
async function fillFolder(folder: string): Promise<void> {
  for (const path of ['locked', 'etc', 'deep/er/locked']) await mkdir(join(folder, path), { recursive: true });
  for (const path of ['fixed', 'log', 'locked/file', 'etc/resolv.conf', 'etc/machine-id', 'deep/er/locked/file', 'deep/scratch', 'plain'])
    await writeFile(join(folder, path), 'as it was\n');
  const all = (...paths: readonly string[]) => paths.map((path) => join(folder, path));
  await chattr('+i', ...all('fixed', 'etc/resolv.conf', 'etc/machine-id', 'locked/file', 'locked', 'deep/er/locked'));
  await chattr('+a', ...all('log', 'deep/er/locked/file'));
  await chattr('+d', ...all('deep/scratch'));
}

const wanted = [
  'deep/er/locked i',
  'deep/er/locked/file a',
  'deep/scratch d',
  'etc/machine-id i',
  'etc/resolv.conf i',
  'fixed i',
  'locked i',
  'locked/file i',
  'log a',
];

/** In the root: an excluded file that is immutable, in an immutable folder. */
const excluded = 'locked/kept i';

async function makeExcluded(root: string): Promise<void> {
  const [folder, file] = [join(root, 'locked'), join(root, 'locked/kept')];
  await chattr('-i', folder);
  await writeFile(file, 'of this machine\n');
  await chattr('+i', folder, file);
}

async function excludedIsThere(t: Test, subject: Subject): Promise<void> {
  const [root = ''] = await subject.places();
  t.equal(await readFile(join(root, 'locked/kept'), 'utf8'), 'of this machine\n', 'what is excluded stays');
  t.ok((await flagsIn(root)).includes(excluded), 'with its flags');
}

async function seen(subject: Subject, container?: string): Promise<unknown[]> {
  const all = [];
  for (const folder of await subject.places(container))
    all.push([
      (await flagsIn(folder)).filter((line) => line !== excluded),
      await readFile(join(folder, 'log'), 'utf8'),
      await readFile(join(folder, 'plain'), 'utf8'),
    ]);
  return all;
}

const three = (flags: readonly string[], log: string, plain: string) => Array(3).fill([flags, log, plain]);
const asBackedUp = three(wanted, 'as it was\n', 'as it was\n');

/** Leftovers of a restore. */
async function leftOver({ a, kind }: Subject): Promise<string[]> {
  const roots = [a.lxcPath, a.folder, ...(kind === 'docker' ? [join(docker.folder, 'd/volumes'), join(docker.folder, 'd/overlay2')] : [])];
  const names = (await Promise.all(roots.map((root) => readdir(root, { recursive: true })))).flat();
  const containers =
    kind === 'docker' ? items(await docker.client.json('GET', '/containers/json?all=1')).map((one) => String(fields(one).Names)) : [];
  return [
    ...names.filter((name) => /\.container-backup-[0-9a-f]/.test(name) && !name.includes('.container-backup-lock')),
    ...containers.filter((name) => !/^\/[a-z]+$/.test(name)),
  ];
}

/** Removes a flag, appends to a log, and rewrites a plain file. */
async function change(subject: Subject): Promise<void> {
  for (const folder of await subject.places()) {
    await chattr('-i', join(folder, 'fixed'));
    await appendFile(join(folder, 'log'), 'more\n');
    await writeFile(join(folder, 'plain'), 'changed\n');
  }
}
const changed = three(
  wanted.filter((line) => line !== 'fixed i'),
  'as it was\nmore\n',
  'changed\n',
);

const inPlace = ({ kind, name }: Subject, portfolio = name): RestoreWish => ({ portfolio, container: name, type: kind });

/** Restores. @returns the id of the job, for its undo */
async function restored(subject: Subject, wish: RestoreWish = inPlace(subject)): Promise<number> {
  const { a } = subject;
  const src = { target: 'local', path: '/test/backups', portfolio: wish.portfolio };
  const id = await a.service.create('restore', { job_name: 'back', container_id: wish.container, type: wish.type, src });
  await a.service.ended('restore', id);
  return id;
}

async function restoresOf(t: Test, subject: Subject, other: RestoreWish): Promise<void> {
  const { a } = subject;
  await change(subject);
  const first = await restored(subject);
  t.same(await seen(subject), asBackedUp, 'a restore brings the flags back');
  await excludedIsThere(t, subject);
  const mate = await restored(subject, other);
  t.equal((await a.service.ask('DELETE', `/restore/${mate}/undo`)).status, 200, 'another one is restored meanwhile');
  await change(subject);
  const second = await restored(subject);
  t.same(await seen(subject), asBackedUp, 'a second one drops what the first one kept');
  t.equal((await a.service.ask('PUT', `/restore/${first}/undo`)).status, 404);
  const undone = await a.service.ask('PUT', `/restore/${second}/undo`);
  t.equal(undone.status, 200, undone.text);
  t.same(await seen(subject), changed, 'an undo brings back what there was, flags too');
  await excludedIsThere(t, subject);
  t.same(await leftOver(subject), [], 'and nothing is left of the other');
  const third = await restored(subject);
  const dropped = await a.service.ask('DELETE', `/restore/${third}/undo`);
  t.equal(dropped.status, 200, dropped.text);
  t.same(await leftOver(subject), [], 'what an undo kept goes');
  t.same(await seen(subject), asBackedUp);
}

async function failingRestore(t: Test, subject: Subject, job: number): Promise<void> {
  const { a, kind, name } = subject;
  await subject.breakRoot(true);
  const run = await backUp(a.service, job);
  await subject.breakRoot(false);
  await change(subject);
  const src = { target: 'local', path: '/test/backups', portfolio: `${name}/${run}` };
  const id = await a.service.create('restore', { job_name: 'fails', container_id: name, type: kind, src });
  t.match(await a.service.settled('restore', id), { result: -1 }, 'a restore that cannot start the container fails');
  t.same(await seen(subject), changed, 'and leaves it as it was');
  t.same(await leftOver(subject), [], 'with nothing of the draft');
}

for (const kind of ['lxc', 'docker'] as const) {
  t.test(`${kind}: a container with flagged files passes every kind of restore`, async (t) => {
    const subject = await (kind === 'lxc' ? lxcSubject(t, 'flagged') : dockerSubject(t, 'flagged'));
    const { a, name } = subject;
    for (const place of await subject.places()) await fillFolder(place);
    await makeExcluded((await subject.places())[0] ?? '');
    if (kind === 'lxc') await startLxc(a.lxcPath, name);
    const job = await makeJob(a.service, {
      name,
      container: name,
      type: kind,
      features: ['compress', 'pause'],
      exclude: ['rootfs:/locked/kept'],
    });
    const base = await backUp(a.service, job);
    const run = await backUp(a.service, job);
    for (const one of [base, run]) {
      const archives = items(part(await a.service.call('GET', `/backup/${job}/runs/${one}`), 'archives')).map(fields);
      const flags = archives.filter(({ source }) => source !== '@image').map((archive) => items(archive.flags).length);
      t.ok(flags.length >= 3 && flags.every((count) => count === wanted.length), `each level knows all of them: ${flags.join(' ')}`);
    }
    if (kind === 'lxc') await a.lxc('beside');
    else await docker.run('beside', { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], HostConfig: { NetworkMode: 'none' } });
    await backUp(a.service, await makeJob(a.service, { name: 'beside', container: 'beside', type: kind }));
    const other = { portfolio: 'beside', container: 'beside', type: kind };
    await restoresOf(t, subject, other);

    a.alsoDestroy('clone');
    const ids = ['u 0 100000 65536', 'g 0 100000 65536'];
    await restore(a.service, { ...inPlace(subject), container: 'clone', ...(kind === 'lxc' && { remap: { ids } }) });
    t.same(await seen(subject, 'clone'), asBackedUp, 'a clone has them, too');
    const [root = ''] = await subject.places('clone');
    if (kind === 'lxc') t.equal(await readFile(join(root, 'etc/machine-id'), 'utf8'), '', 'with an id of its own');

    await failingRestore(t, subject, job);
    await t.resolves(restored(subject, other), 'nothing holds up what comes next');
  });
}
