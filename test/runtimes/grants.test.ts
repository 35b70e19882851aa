import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Description, Grant, RestorePlan } from '../../core/contract/index.js';
import { fields } from '../../plugins/runtimes/docker/engine/json.js';
import { grantsOf as dockerGrants, type Surroundings } from '../../plugins/runtimes/docker/rights/grants.js';
import { DockerRuntime } from '../../plugins/runtimes/docker/runtime.js';
import { grantsOf as lxcGrants } from '../../plugins/runtimes/lxc/grants.js';
import { LxcRuntime } from '../../plugins/runtimes/lxc/runtime.js';
import { grantsOf } from '../conformance/runtime/preview.js';
import { ownDockerd } from '../support/appliance.js';
import { makeLxcContainer, makeLxcPath } from '../support/lxc.js';
import { type DockerChange, dockerRights, lxcOrdinary, lxcRights } from './grant-tables.js';

const folder = await mkdtemp(join(tmpdir(), 'grants-'));
const lxcPath = await makeLxcPath();
t.teardown(async () => {
  for (const path of [folder, lxcPath]) await rm(path, { recursive: true, force: true });
});
const share = join(folder, 'share');
for (const name of ['a', 'a b']) await mkdir(join(share, name), { recursive: true });
await symlink('/etc', join(share, 'link'));

const places: Readonly<Record<string, string>> = {
  '%share': share,
  '%folder': folder,
  '%link': join(share, 'link'),
  '%lxc': lxcPath,
  '%own': join(lxcPath, 'box'),
  '%etc': join(lxcPath, '../etc'),
};
const placed = (text: string) => text.replace(/%[a-z]+/g, (name) => places[name] ?? name);
const lines = (grants: readonly Grant[]) => grants.map(({ code, what }) => `${code} ${what}`);

function planOf(description: Description, more: Partial<RestorePlan> = {}): RestorePlan {
  return { container: description.name, action: 'create', description, sources: [], ...more };
}

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');
const engine = new DockerRuntime({
  log: () => undefined,
  signal: new AbortController().signal,
  stateFolder: folder,
  options: { socket: docker.socket },
});
const run = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'] };

const around: Surroundings = {
  folders: { shares: [share], except: [docker.folder] },
  engine: { privateCgroups: true, logDriver: 'json-file', runtime: 'runc' },
  subnets: ['192.168.77.5/24'],
  volumes: new Map([
    ['taken', ['other']],
    ['mine', ['plain']],
  ]),
};

await docker.run('plain', run);
const plain = await engine.describe('plain');

function changed({ host, config, mounts, networks, beside = [] }: DockerChange): Description {
  const own = fields(JSON.parse(plain.native.text));
  const text = JSON.stringify([
    {
      ...own,
      HostConfig: { ...fields(own.HostConfig), CgroupnsMode: 'private', ...host },
      Config: { ...fields(own.Config), ...config },
      Mounts: mounts ?? own.Mounts,
      NetworkSettings: networks ? { Networks: networks } : own.NetworkSettings,
    },
    ...beside,
  ]);
  return { ...plain, native: { format: 'docker-inspect', text: placed(text) } };
}

t.test('Docker: each setting that reaches beyond the container is listed, and nothing else', async (t) => {
  t.ok(dockerRights.length >= 30);
  t.same(await dockerGrants(planOf(changed({})), around), []);
  for (const [change, ...grants] of dockerRights) {
    const found = lines(await dockerGrants(planOf(changed(change)), around));
    t.same(found, grants.map(placed), JSON.stringify(change));
  }
});

t.test('Docker: a place that the client chose, an own volume and a copy for a clone are no rights', async (t) => {
  const bound = changed({ mounts: [{ Type: 'bind', Source: '/srv/media', Destination: '/media', RW: true }] });
  const sources = [{ name: 'srv-media', origin: 'host', kind: 'folder' }] as const;
  t.same(lines(await dockerGrants(planOf(bound, { sources }), around)), ['host_folder /srv/media at /media'], 'the run writes there');
  const moved = planOf(bound, { sources, remap: { volumes: { 'srv-media': '/srv/other' } } });
  t.same(await dockerGrants(moved, around), []);
  const of = (Name: string) => changed({ mounts: [{ Type: 'volume', Name, Destination: '/v', RW: true }] });
  const root = [{ name: 'rootfs', origin: 'engine', kind: 'folder' }] as const;
  t.same(await dockerGrants(planOf(of('mine'), { action: 'replace', sources: root }), around), []);
  t.match(await dockerGrants(planOf(of('taken'), { action: 'replace', sources: root }), around), [{ code: 'other_volume' }]);
  t.same(await dockerGrants(planOf(of('fresh')), around), []);
  const held = [{ name: 'taken', origin: 'new', kind: 'folder' }] as const;
  t.same(await dockerGrants(planOf(of('taken'), { container: 'clone', sources: held }), around), [], 'a clone gets a copy');
  t.match(await dockerGrants(planOf(of('taken'), { sources: held }), around), [{ code: 'other_volume' }]);
  const part = planOf(changed({ host: { Privileged: true } }), { action: 'replace', sources: held });
  t.same(await dockerGrants(part, around), [], 'without its root, the container that is there stays as it is');
  const time = changed({ host: { Binds: ['/etc/localtime:/etc/localtime:ro'] } });
  t.same(await dockerGrants(planOf(time), around), []);
});

t.test('Docker: an ordinary container of a real engine has no rights', async (t) => {
  await docker.client.json('POST', '/networks/create', { body: { Name: 'front', Labels: { 'com.docker.compose.network': 'front' } } });
  const port = { ExposedPorts: { '80/tcp': {} } };
  const bodies: Readonly<Record<string, object>> = {
    ports: { ...port, HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] } } },
    volumes: { Volumes: { '/anonymous': {} }, HostConfig: { Binds: ['own-data:/data:rw', `${share}/a:/a:ro`] } },
    mounts: {
      HostConfig: {
        Mounts: [
          { Type: 'volume', Source: 'own-mount', Target: '/m' },
          { Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 1 << 20 } },
        ],
      },
    },
    restart: { HostConfig: { RestartPolicy: { Name: 'unless-stopped' }, AutoRemove: false } },
    network: { HostConfig: { NetworkMode: 'front' }, NetworkingConfig: { EndpointsConfig: { front: { Aliases: ['web'] } } } },
    composed: {
      Labels: { 'com.docker.compose.project': 'p', 'com.docker.compose.service': 's' },
      Env: ['A=b'],
      WorkingDir: '/tmp',
      StopSignal: 'SIGTERM',
      HostConfig: { NetworkMode: 'front', Binds: ['p_data:/data', '/etc/localtime:/etc/localtime:ro'], ExtraHosts: ['a:10.0.0.1'] },
      NetworkingConfig: { EndpointsConfig: { front: { Aliases: ['s'] } } },
    },
    limits: {
      HostConfig: {
        ...{ Memory: 64 << 20, NanoCpus: 5e8, CpuShares: 512, PidsLimit: 100, ShmSize: 1 << 20, CpusetCpus: '0', OomScoreAdj: 500 },
        ...{ Ulimits: [{ Name: 'nofile', Soft: 1024, Hard: 2048 }], CapDrop: ['ALL'], CapAdd: ['CHOWN'], ReadonlyRootfs: true },
        ...{ SecurityOpt: ['no-new-privileges'], Tmpfs: { '/tmp': 'size=1m' }, Init: false, GroupAdd: ['44'] },
        LogConfig: { Type: 'local', Config: { 'max-size': '1m' } },
      },
    },
    health: { Healthcheck: { Test: ['CMD', '/bin/true'], Interval: 30e9 }, Tty: true, OpenStdin: true, User: '1000:1000' },
  };
  for (const [name, body] of Object.entries({ plain: {}, ...bodies })) {
    if (name !== 'plain') await docker.run(name, { ...run, ...body });
    for (const action of ['replace', 'create'] as const) {
      const description = await engine.describe(name);
      const sources = (await engine.sources(name)).map(({ name, origin, kind }) => ({ name, origin, kind }));
      const plan = planOf(description, { action, sources, ...(action === 'create' && { container: `${name}-clone` }) });
      t.same(await grantsOf(engine, plan, [share]), [], `${name}, ${action}`);
    }
  }
  const body = { ...run, HostConfig: { Privileged: true, PidMode: 'host' } }; // only created: not every machine could start it
  await docker.client.json('POST', '/containers/create?name=privileged', { body });
  const found = await grantsOf(engine, planOf(await engine.describe('privileged')), [share]);
  t.match(
    lines(found).filter((line) => /^(privileged|host_namespace)/.test(line)),
    ['host_namespace PidMode host', 'privileged Privileged true'],
  );
});

const lxc = new LxcRuntime(lxcPath, { stateFolder: folder, log: () => undefined });

async function lxcPlan(more: readonly string[], shifted = false): Promise<RestorePlan> {
  await rm(join(lxcPath, 'box'), { recursive: true, force: true });
  await makeLxcContainer(lxcPath, 'box', { shifted });
  const file = join(lxcPath, 'box/config');
  const text = `${await readFile(file, 'utf8')}${more.map(placed).join('\n')}\n`;
  const description = await lxc.describe('box');
  await writeFile(file, text);
  return planOf({ ...description, native: { ...description.native, text } });
}

t.test('LXC: each line that reaches beyond the container is listed, and nothing else', async (t) => {
  t.ok(lxcRights.length >= 30);
  const { description, ...plan } = await lxcPlan([]);
  for (const [more, ...grants] of lxcRights) {
    const native = { ...description.native, text: `${description.native.text}${placed(more)}\n` };
    const found = await lxcGrants({ ...plan, description: { ...description, native } }, { shares: [share], lxcPath });
    t.same(lines(found), grants.map(placed), JSON.stringify(more));
  }
});

t.test('LXC: an ordinary container has no rights', async (t) => {
  for (const shifted of [false, true]) {
    const plan = await lxcPlan([], shifted);
    t.same(await grantsOf(lxc, plan, [share]), [], `shifted ${shifted}`);
    t.same(await grantsOf(lxc, { ...plan, container: 'clone' }, [share]), []);
  }
  for (const more of lxcOrdinary) t.same(await grantsOf(lxc, await lxcPlan([more]), [share]), [], more);
});

t.test('LXC: a described folder of the host is a right, unless the client moves it', async (t) => {
  const { description, ...plan } = await lxcPlan([]);
  const volume = [
    ...description.volume,
    { name: 'cron', origin: 'host', path: '/etc/cron.d', mountpoint: '/x', read_only: false, shared_with: [] } as const,
  ];
  const writing = { ...plan, description: { ...description, volume } };
  t.same(lines(await grantsOf(lxc, writing, [share])), ['system_path /etc/cron.d at /x']);
  t.same(await grantsOf(lxc, { ...writing, remap: { volumes: { cron: '/srv/cron' } } }, [share]), []);
});

t.test('a list of rights is sorted, has no duplicates, and shows no text that looks like another', async (t) => {
  const plan = await lxcPlan([
    'lxc.zzz = 1',
    'lxc.hook.mount = /b',
    'lxc.hook.mount = /a',
    'lxc.hook.mount = /a',
    'lxc.hook.mount = /\u202egro',
  ]);
  t.same(lines(await grantsOf(lxc, plan, [])), [
    'hook lxc.hook.mount = /\\u{202e}gro',
    'hook lxc.hook.mount = /a',
    'hook lxc.hook.mount = /b',
    'option lxc.zzz = 1',
  ]);
});
