/** Every setting of a Docker container survives a restore: in place, as a clone, without its image, and on another engine. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type Fields, fields, items, text, texts } from '../../../plugins/runtimes/docker/engine/json.js';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { freePort } from '../../support/servers/free-port.js';
import { backUp, consented, makeJob, restore, restorePlan } from './bench.js';

const docker = await ownDockerd(t);
// The container that is kept for an undo would hold the volumes that the test removes below.
const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '0'] });
const of = (what: string) => join(a.folder, what);
const imageId = await docker.sampleImage('sample:1');
await docker.client.json('POST', '/images/sample:1/tag?repo=registry.example:5000/team/sample&tag=stable');

const config = {
  Image: 'sample:1',
  Entrypoint: ['/bin/sleep'],
  Cmd: ['100000'],
  Hostname: 'rich-host',
  Domainname: 'example.org',
  User: '0:7',
  Env: ['A=b', 'EMPTY=', 'Q=a "b" $c \\ ü'],
  Labels: { one: '1', 'com.example.two': 'x y', 'com.docker.compose.project': 'p' },
  WorkingDir: '/seed',
  ExposedPorts: { '80/tcp': {}, '53/udp': {} },
  Volumes: { '/anonymous': {} },
  Tty: true,
  OpenStdin: true,
  StopSignal: 'SIGKILL',
  StopTimeout: 3,
  Healthcheck: { Test: ['CMD', '/bin/true'], Interval: 3600e9, Timeout: 2e9, Retries: 4, StartPeriod: 1e9 },
};

const limits = {
  Memory: 64 << 20,
  MemorySwap: 128 << 20,
  MemoryReservation: 32 << 20,
  NanoCpus: 5e8,
  CpuShares: 512,
  CpusetCpus: '0',
  PidsLimit: 99,
  OomScoreAdj: 100,
  ShmSize: 32 << 20,
  Ulimits: [
    { Name: 'nofile', Soft: 1024, Hard: 2048 },
    { Name: 'nproc', Soft: 50, Hard: 60 },
  ],
};

const rights = {
  CapAdd: ['NET_ADMIN', 'SYS_TIME'],
  CapDrop: ['MKNOD'],
  GroupAdd: ['44'],
  SecurityOpt: ['no-new-privileges'],
  Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/nothing', CgroupPermissions: 'rw' }],
  Sysctls: { 'net.ipv4.ip_unprivileged_port_start': '0' },
  Init: true,
  IpcMode: 'private',
};

const others = {
  RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 },
  LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '2' } },
  Tmpfs: { '/scratch': 'size=1m' },
  Dns: ['10.0.0.53'],
  DnsSearch: ['example.org'],
  ExtraHosts: ['other:10.1.2.3'],
  Binds: ['rich-data:/data', `${of('conf')}:/conf:ro`, `${of('one.conf')}:/one.conf`],
  Mounts: [{ Type: 'volume', Source: 'rich-mounted', Target: '/mounted', ReadOnly: false }],
};

/** In two networks, with aliases, a fixed address and a published port. */
async function makeRich(name: string): Promise<void> {
  await mkdir(of('conf'));
  for (const file of ['conf/a.conf', 'one.conf']) await writeFile(of(file), file);
  const Subnet = '10.213.91.0/24';
  await docker.client.json('POST', '/networks/create', { body: { Name: 'front', IPAM: { Config: [{ Subnet }] } } });
  const Labels = { 'com.docker.compose.network': 'back' };
  await docker.client.json('POST', '/networks/create', { body: { Name: 'back', Internal: true, Labels } });
  await docker.client.json('POST', '/volumes/create', { body: { Name: `${name}-data`, Labels: { 'com.docker.compose.volume': 'data' } } });
  const ports = { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: String(await freePort()) }] } };
  const EndpointsConfig = { front: { Aliases: ['www', 'api'], IPAMConfig: { IPv4Address: '10.213.91.9' } } };
  const HostConfig = { NetworkMode: 'front', ...limits, ...rights, ...others, ...ports };
  await docker.run(name, { ...config, HostConfig, NetworkingConfig: { EndpointsConfig } });
  const body = { Container: name, EndpointConfig: { Aliases: ['db'] } };
  await docker.client.json('POST', '/networks/back/connect', { body });
  await docker.exec(name, 'rm /seed/file; mkdir /made; echo root > /made/file; echo data > /data/file; echo x > /anonymous/x');
}

const inspectOf = async (d: Dockerd, name: string): Promise<Fields> => fields(await d.client.json('GET', `/containers/${name}/json`));

function networksOf(inspect: Fields): object {
  const shortId = text(inspect.Id).slice(0, 12);
  const all = Object.entries(fields(fields(inspect.NetworkSettings).Networks)).map(([name, value]) => {
    const { Aliases, IPAMConfig, Links } = fields(value);
    const address = text(fields(IPAMConfig).IPv4Address);
    return [name, { aliases: texts(Aliases).filter((alias) => alias !== shortId), address, Links }];
  });
  return Object.fromEntries(all.sort());
}

/** The settings of its networks, and the labels of its volumes. */
async function besideOf(d: Dockerd, inspect: Fields): Promise<object> {
  const networks = Object.keys(fields(fields(inspect.NetworkSettings).Networks)).map(async (name) => {
    const { Driver, Internal, Attachable, Labels, Options } = fields(await d.client.json('GET', `/networks/${name}`));
    return { name, Driver, Internal, Attachable, Labels, Options };
  });
  const volumes = items(inspect.Mounts)
    .map(fields)
    .filter(({ Type }) => Type === 'volume');
  const labels = volumes.map(async ({ Name, Destination }) => {
    const { Labels } = fields(await d.client.json('GET', `/volumes/${text(Name)}`));
    return [Destination, Labels];
  });
  return { networks: await Promise.all(networks), labels: Object.fromEntries(await Promise.all(labels)) };
}

/** Everything that a user can set, and what the container changed in its root. */
async function settingsOf(d: Dockerd, name: string) {
  const inspect = await inspectOf(d, name);
  const { Binds, Mounts, ...host } = fields(inspect.HostConfig);
  const own = fields(inspect.Config);
  const image = fields(await d.client.json('GET', `/images/${text(inspect.Image)}/json`));
  const changes = items(await d.client.json('GET', `/containers/${name}/changes`)).map(fields);
  const mounts = items(inspect.Mounts).map(fields);
  return {
    name: inspect.Name,
    image: inspect.Image,
    tags: texts(image.RepoTags).toSorted(),
    // The default host name is the container's id, which differs each time.
    config: { ...own, Hostname: own.Hostname === text(inspect.Id).slice(0, 12) ? 'chosen by the engine' : own.Hostname },
    host,
    networks: networksOf(inspect),
    beside: await besideOf(d, inspect),
    ports: fields(inspect.HostConfig).PortBindings,
    mounts: mounts.map(({ Type, Destination, RW, Propagation }) => JSON.stringify([Destination, Type, RW, Propagation])).sort(),
    sources: mounts.map((mount) => `${mount.Destination} ${text(mount.Name) || text(mount.Source)}`).sort(),
    running: fields(inspect.State).Running,
    diff: changes.map(({ Kind, Path }) => `${Kind} ${Path}`).sort(),
  };
}

const contents = `[ ! -e /seed/file ] && read a < /made/file && [ $a = root ] && read b < /data/file && [ $b = data ] && read c < /anonymous/x &&
  [ $c = x ] && read d < /conf/a.conf; [ $d = conf/a.conf ] && read e < /one.conf; [ $e = one.conf ]`;

await makeRich('rich');
const before = await settingsOf(docker, 'rich');
const job = await makeJob(a.service, { name: 'rich', container: 'rich', type: 'docker', features: ['compress', 'pause'] });
await backUp(a.service, job);

t.test('the engine reports the settings that the container was made with', async (t) => {
  t.match(before, { name: '/rich', image: imageId, tags: ['registry.example:5000/team/sample:stable', 'sample:1'], running: true });
  t.match(before.config, config);
  const { Binds: _, Mounts: _mounts, ...rest } = others;
  t.match(before.host, { ...limits, ...rights, ...rest });
  t.match(before.networks, { front: { aliases: ['www', 'api'], address: '10.213.91.9' }, back: { aliases: ['db'] } });
  t.equal(before.mounts.length, 5);
  const labels = { '/data': { 'com.docker.compose.volume': 'data' } };
  t.match(before.beside, { labels, networks: [{ name: 'back', Internal: true, Labels: { 'com.docker.compose.network': 'back' } }] });
});

t.test('a restore in place brings back every setting', async (t) => {
  await docker.exec('rich', 'rm -r /made; echo later > /later; echo later > /data/file; rm /anonymous/x');
  await docker.client.json('POST', '/containers/rich/update', { body: { PidsLimit: 5, RestartPolicy: { Name: 'always' } } });
  await restore(a.service, { portfolio: 'rich', container: 'rich', type: 'docker' });
  t.same(await settingsOf(docker, 'rich'), before);
  await docker.exec('rich', contents);
});

t.test('a clone with a taken port and address is made, stays stopped, and says why', async (t) => {
  const wish = { portfolio: 'rich', container: 'twin', type: 'docker' } as const;
  const conflicts = [
    { code: 'port_taken', what: /is held by container rich/, fix: /^Stop container rich/ },
    { code: 'address_taken', what: /10\.213\.91\.9 in front is held by rich/, fix: /.+/ },
  ];
  t.match(await restorePlan(a.service, wish), { action: 'create', container: 'twin', conflicts });
  const state = await restore(a.service, wish);
  const warnings = [{ code: 'labels_dropped', names: ['com.docker.compose.project'] }];
  t.match(state, { result: 0, conflicts, warnings });
  const twin = await settingsOf(docker, 'twin');
  const labels = { one: '1', 'com.example.two': 'x y' }; // no labels of a compose project
  const beside = { ...before.beside, labels: { ...fields(fields(before.beside).labels), '/data': null } };
  const expected = {
    ...before,
    name: '/twin',
    running: false,
    sources: twin.sources,
    config: { ...before.config, Labels: labels },
    beside,
  };
  t.same(twin, expected, 'but for its name, its own mounts and the labels of its project it has every setting');
  const shared = twin.sources.filter((source) => before.sources.includes(source));
  t.same(shared, [], 'no mount is shared with the original');
  t.equal((await inspectOf(docker, 'rich')).Name, '/rich');
  t.equal(fields((await inspectOf(docker, 'rich')).State).Running, true, 'the original runs on');
  await docker.client.json('POST', '/containers/rich/stop?t=0');
  await docker.client.json('POST', '/containers/twin/start');
  await docker.exec('twin', contents);
  await docker.removeContainer('twin');
  for (const path of ['conf', 'one.conf']) await rm(`${of(path)}.twin`, { recursive: true });
  await docker.client.json('POST', '/containers/rich/start');
});

/** Removes everything of the container, as on a new machine. */
async function loseAll(): Promise<void> {
  await docker.removeContainer('rich');
  for (const path of ['conf', 'one.conf']) await rm(of(path), { recursive: true });
  for (const network of ['front', 'back']) await docker.client.json('DELETE', `/networks/${network}`);
  await docker.client.json('DELETE', `/images/${imageId}?force=1`);
}

t.test('a restore after the loss of container, volumes, folders, networks and image brings back every setting', async (t) => {
  await loseAll();
  const wish = { portfolio: 'rich', container: 'rich', type: 'docker' } as const;
  t.match(await restorePlan(a.service, wish), { action: 'create', conflicts: [] });
  t.match(await restore(a.service, wish), { result: 0, conflicts: [] });
  t.same(await settingsOf(docker, 'rich'), before, 'with the id and the tags of its image');
  await docker.exec('rich', contents);
});

t.test('a restore on another engine brings back every setting', async (t) => {
  await loseAll();
  const second = await ownDockerd(t);
  const b = await makeAppliance(t, { dockerd: second, shares: { test: a.share } });
  await restore(b.service, await consented(b.service, { portfolio: 'rich', container: 'rich', type: 'docker' }));
  t.same(await settingsOf(second, 'rich'), before);
  await second.exec('rich', contents);
  await second.removeContainer('rich');
  for (const path of ['conf', 'one.conf']) await rm(of(path), { recursive: true });
});

t.test('a restore does not move a tag that names another image by now', async (t) => {
  const other = await docker.sampleImage('sample:1');
  t.not(other, imageId);
  await restore(a.service, { portfolio: 'rich', container: 'rich', type: 'docker' });
  const after = await settingsOf(docker, 'rich');
  t.equal(after.image, imageId, 'the container has its own image');
  t.equal(part(await docker.client.json('GET', '/images/sample:1/json'), 'Id'), other);
  t.same(after.tags, ['registry.example:5000/team/sample:stable']);
  t.same({ ...after, tags: before.tags, config: { ...after.config, Image: 'sample:1' } }, before, 'all else is as it was');
});

t.test('a stopped container with restart policy always stays stopped', async (t) => {
  const body = { Image: imageId, Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL' };
  await docker.run('still', { ...body, HostConfig: { NetworkMode: 'none', RestartPolicy: { Name: 'always' } } });
  await docker.client.json('POST', '/containers/still/stop?t=0');
  const was = await settingsOf(docker, 'still');
  await backUp(a.service, await makeJob(a.service, { name: 'still', container: 'still', type: 'docker', features: ['pause'] }));
  await restore(a.service, { portfolio: 'still', container: 'still', type: 'docker' });
  t.same(await settingsOf(docker, 'still'), was, 'in place it stays stopped');
  await restore(a.service, { portfolio: 'still', container: 'still-2', type: 'docker' });
  t.same(await settingsOf(docker, 'still-2'), { ...was, name: '/still-2' }, 'so does a clone');
});
