import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { type Test, test } from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import { fields, items, text } from '../../plugins/runtimes/docker/engine/json.js';
import plugin from '../../plugins/runtimes/docker/index.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { fill, planOf, rejectsWith, runtimeConformance, type Saved, save, stateOf } from '../conformance/runtime/index.js';
import { conflictsOf } from '../conformance/runtime/preview.js';
import { type Dockerd, startDockerd } from '../support/servers/dockerd.js';

const { signal } = new AbortController();
const docker = await startDockerd();
const imageId = await docker.sampleImage('sample:1');
const stateFolder = await mkdtemp(`${docker.folder}/state-`);

function openRuntime(socket = docker.socket): Promise<Runtime> {
  return plugin.open({ log: () => undefined, signal, stateFolder, options: { socket } });
}

const base = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL' };

/** A container with everything that inspect must show again. */
async function makeRich(d: Dockerd, name: string, host: Readonly<Record<string, unknown>> = {}): Promise<void> {
  await mkdir(`${d.folder}/conf`, { recursive: true });
  await writeFile(`${d.folder}/conf/a.conf`, 'a');
  await writeFile(`${d.folder}/one.conf`, 'one');
  const HostConfig = {
    Binds: [`${name}-data:/data`, `${d.folder}/conf:/conf:ro`, `${d.folder}/one.conf:/one.conf`, '/dev/null:/nothing', `${d.socket}:/sock`],
    RestartPolicy: { Name: 'unless-stopped' },
    CapAdd: ['NET_ADMIN'],
    LogConfig: { Type: 'json-file', Config: { 'max-size': '1m' } },
    Memory: 64 << 20,
    Tmpfs: { '/scratch': '' },
    ...host,
  };
  const Healthcheck = { Test: ['CMD', '/bin/true'], Interval: 60_000_000_000 };
  await d.run(name, { ...base, Env: ['A=b'], Labels: { l: 'm' }, User: '0:0', Volumes: { '/anonymous': {} }, Healthcheck, HostConfig });
  await d.exec(name, 'echo v > /data/file; echo r > /root-file; rm /seed/file; mkdir /made; chmod 4755 /root-file; echo x > /anonymous/x');
}

async function inspect(name: string): Promise<Readonly<Record<string, unknown>>> {
  const all = fields(await docker.client.json('GET', `/containers/${name}/json`));
  const { Binds, Mounts, ...host } = fields(all.HostConfig);
  const { Hostname, ...config } = fields(all.Config);
  return { image: all.Image, config, host };
}

async function changes(name: string): Promise<readonly string[]> {
  const all = items(await docker.client.json('GET', `/containers/${name}/changes`)).map(fields);
  return all.map(({ Path, Kind }) => `${Kind} ${Path}`).sort(); // the engine gives them in any order
}

const journals = async () => (await readdir(stateFolder)).filter((name) => !name.endsWith('.lock'));

const everything = async () => ({
  containers: items(await docker.client.json('GET', '/containers/json?all=1')).map((one) => String(fields(one).Names)),
  images: JSON.stringify(await docker.client.json('GET', '/images/json')).match(/"RepoTags":[^\]]+/g),
  volumes: (await readdir(`${docker.folder}/d/volumes`)).sort(),
  networks: JSON.stringify(await docker.client.json('GET', '/networks'))
    .match(/"Name":"[^"]+"/g)
    ?.sort(),
  folder: (await readdir(docker.folder)).sort(),
  journals: await journals(),
});

async function withRich(t: Test, name: string, host: Readonly<Record<string, unknown>> = {}): Promise<{ runtime: Runtime; saved: Saved }> {
  await makeRich(docker, name, host);
  const runtime = await openRuntime();
  const saved = await save(t, runtime, name);
  t.teardown(() => docker.removeContainer(name));
  return { runtime, saved };
}

test('tells what belongs to a container', async (t) => {
  const { saved } = await withRich(t, 'told');
  const names = saved.sources.map(({ origin, kind }) => `${origin} ${kind}`).sort();
  t.strictSame(names, ['engine folder', 'host file', 'host folder', 'new folder', 'new folder']);
  t.match(saved.description, { autostart: true, image: 'sample:1', resource: { Memory: 64 << 20 }, arch: /x86_64|aarch64/ });
  t.strictSame(saved.description.left_out.map(({ path }) => path).sort(), ['/dev/null', '/scratch', docker.socket].sort());
  const runtime = await openRuntime();
  await docker.client.json('POST', '/containers/told/stop?t=0');
  await rm(`${docker.folder}/conf`, { recursive: true });
  await rejectsWith(t, 'not_found', runtime.sources('told'));
  await rejectsWith(t, 'unavailable', (await openRuntime('/tmp/no-such-socket')).describe('told'));
});

test('replaces and keeps every setting', async (t) => {
  const { runtime, saved } = await withRich(t, 'kept');
  const before = { inspect: await inspect('kept'), changes: await changes('kept'), all: await everything() };
  await docker.exec('kept', 'rm /root-file; echo later > /later; echo later > /data/file');
  await writeFile(`${docker.folder}/one.conf`, 'later');
  const draft = await runtime.draft(planOf(saved, 'kept', 'replace'), { signal });
  await fill(draft, saved);
  t.strictSame((await draft.commit()).conflicts, []);
  t.strictSame(await inspect('kept'), before.inspect);
  t.strictSame(await changes('kept'), before.changes, 'docker diff is the same');
  t.strictSame(await everything(), before.all, 'nothing is left beside');
  t.equal(await readFile(`${docker.folder}/one.conf`, 'utf8'), 'one');
  await docker.exec(
    'kept',
    '[ -u /root-file ] && [ ! -e /seed/file ] && read x < /anonymous/x && [ "$x" = x ] && [ -d /made ] && [ ! -e /later ]',
  );
});

test('brings image, volumes and folders back to an empty machine', async (t) => {
  const { runtime, saved } = await withRich(t, 'blank');
  const image = await runtime.image('blank');
  t.equal(image?.digest, imageId);
  const before = await inspect('blank');
  if (image) await pipeline(await image.open(signal), createWriteStream(`${saved.archives}/image`));
  await docker.removeContainer('blank');
  await rm(`${docker.folder}/conf`, { recursive: true });
  await docker.client.json('DELETE', '/images/sample:1');
  const empty = await everything();
  const again = await runtime.draft(planOf(saved, 'blank', 'create'), { signal });
  t.equal(again.needsImage, true);
  await again.loadImage(createReadStream(`${saved.archives}/image`));
  await fill(again, saved);
  await again.discard();
  t.strictSame(await everything(), empty, 'discard leaves no trace');
  const draft = await runtime.draft(planOf(saved, 'blank', 'create'), { signal });
  t.equal(draft.needsImage, true, 'not even the image');
  await draft.loadImage(createReadStream(`${saved.archives}/image`));
  await fill(draft, saved);
  t.strictSame((await draft.commit()).conflicts, []);
  t.strictSame(await inspect('blank'), before);
  t.equal(await readFile(`${docker.folder}/d/volumes/blank-data/_data/file`, 'utf8'), 'v\n');
  t.equal(await readFile(`${docker.folder}/conf/a.conf`, 'utf8'), 'a');
});

test('a failed commit and a crash bring the old one back', async (t) => {
  const { runtime, saved } = await withRich(t, 'failing');
  const before = { inspect: await inspect('failing'), all: await everything() };
  const native = saved.description.native.text.replace('"Cmd":["/bin/sleep"', '"Cmd":["/bin/absent"');
  const broken = { ...saved, description: { ...saved.description, native: { format: 'docker-inspect', text: native } } };
  const draft = await runtime.draft(planOf(broken, 'failing', 'replace'), { signal });
  await fill(draft, broken);
  await t.rejects(draft.commit(), { name: 'PluginError' });
  t.equal(await stateOf(runtime, 'failing'), 'running');
  t.strictSame(await inspect('failing'), before.inspect);
  await draft.discard();
  t.strictSame(await everything(), before.all);
});

test('recover undoes what a dead process left', async (t) => {
  const { runtime, saved } = await withRich(t, 'dead');
  const before = { inspect: await inspect('dead'), all: await everything() };
  await fill(await runtime.draft(planOf(saved, 'dead', 'replace'), { signal }), saved);
  const [name = ''] = await journals();
  await runtime.recover();
  t.equal((await journals()).length, 1, 'the draft of a living process stays');
  const journal = fields(JSON.parse(await readFile(`${stateFolder}/${name}`, 'utf8')));
  const oldId = text(fields(await docker.client.json('GET', '/containers/dead/json')).Id);
  await docker.client.json('POST', '/containers/dead/stop?t=0');
  await docker.client.json('POST', `/containers/dead/rename?name=dead.container-backup-old-${text(journal.id)}`);
  await docker.client.json('POST', `/containers/${text(journal.newId)}/rename?name=dead`);
  const dead = { ...journal, owner: { task: '1/task/1', started: '-' }, phase: 'swap', oldId, oldRunning: true };
  await writeFile(`${stateFolder}/${name}`, JSON.stringify(dead));
  await runtime.recover();
  t.equal(await stateOf(runtime, 'dead'), 'running');
  await runtime.recover().then(() => undefined);
  t.strictSame(await inspect('dead'), before.inspect);
  t.strictSame(await everything(), before.all);
});

test('keeps networks, and leaves a clone stopped that would clash', async (t) => {
  const Subnet = '10.213.77.0/24';
  await docker.client.json('POST', '/networks/create', { body: { Name: 'net1', IPAM: { Config: [{ Subnet }] } } });
  const EndpointsConfig = { net1: { Aliases: ['alias1'], IPAMConfig: { IPv4Address: '10.213.77.9' } } };
  const body = { ...base, NetworkingConfig: { EndpointsConfig }, HostConfig: { NetworkMode: 'net1', Binds: ['net-data:/data'] } };
  await docker.run('net', body);
  t.teardown(() => Promise.all(['net', 'net2'].map((name) => docker.removeContainer(name))));
  const runtime = await openRuntime();
  const saved = await save(t, runtime, 'net');
  const draft = await runtime.draft(planOf(saved, 'net2', 'create'), { signal });
  await fill(draft, saved);
  t.match(await draft.commit(), { conflicts: [{ code: 'address_taken' }] });
  t.equal(await stateOf(runtime, 'net2'), 'stopped');
  await docker.removeContainer('net');
  await docker.removeContainer('net2');
  await docker.client.json('DELETE', '/networks/net1');
  const back = await runtime.draft(planOf(saved, 'net', 'create'), { signal });
  await fill(back, saved);
  t.strictSame((await back.commit()).conflicts, []);
  const { net1 } = fields(fields(fields(await docker.client.json('GET', '/containers/net/json')).NetworkSettings).Networks);
  t.match(net1, { IPAddress: '10.213.77.9', Aliases: ['alias1'] });
});

test('tells a port that another process listens on', async (t) => {
  const { runtime, saved } = await withRich(t, 'port');
  const server = createServer().listen(0);
  t.teardown(() => server.close());
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const ports = `"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"${port}"}]}`;
  const native = { format: 'docker-inspect', text: saved.description.native.text.replace(/"PortBindings":(\{\}|null)/, ports) };
  const plan = planOf({ ...saved, description: { ...saved.description, native } }, 'port2', 'create');
  t.match(await conflictsOf(runtime, plan), [{ code: 'port_taken' }]);
});

test('swaps the entries of a mount point, and back when it fails', async (t) => {
  const mnt = `${docker.folder}/mnt`;
  await mkdir(mnt);
  await childOutput('mount', ['-t', 'tmpfs', 'tmpfs', mnt]);
  t.teardown(async () => {
    await docker.removeContainer('mounted');
    await childOutput('umount', [mnt]);
    await rm(mnt, { recursive: true });
  });
  await writeFile(`${mnt}/a`, 'a');
  await docker.run('mounted', { ...base, HostConfig: { Mounts: [{ Type: 'bind', Source: mnt, Target: '/mnt' }] } });
  const runtime = await openRuntime();
  const saved = await save(t, runtime, 'mounted');
  await writeFile(`${mnt}/a`, 'later');
  await writeFile(`${mnt}/b`, 'b');
  const text = saved.description.native.text.replace('"Cmd":["/bin/sleep"', '"Cmd":["/bin/absent"');
  const broken = { ...saved, description: { ...saved.description, native: { format: 'docker-inspect', text } } };
  const failing = await runtime.draft(planOf(broken, 'mounted', 'replace'), { signal });
  await fill(failing, broken);
  await t.rejects(failing.commit(), { name: 'PluginError' });
  await failing.discard();
  t.strictSame([(await readdir(mnt)).sort(), await readFile(`${mnt}/a`, 'utf8')], [['a', 'b'], 'later']);
  const draft = await runtime.draft(planOf(saved, 'mounted', 'replace'), { signal });
  await fill(draft, saved);
  await draft.commit();
  t.strictSame([await readdir(mnt), await readFile(`${mnt}/a`, 'utf8')], [['a'], 'a']);
  t.equal(await stateOf(runtime, 'mounted'), 'running');
});

runtimeConformance({
  name: 'docker',
  open: () => openRuntime(),
  async makeContainer(name) {
    await docker.run(name, { ...base, HostConfig: { Binds: [`${name}-data:/data`] } });
    await docker.exec(name, 'echo content > /data/file');
  },
  removeContainer: (name) => docker.removeContainer(name),
});

test('the engine ends', async () => {
  await docker[Symbol.asyncDispose]();
});
