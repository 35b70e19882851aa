/** A restore with a remap changes ports, networks, ids and volumes, as the fixes of a plan's conflicts propose. */
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { fields, items, text } from '../../../plugins/runtimes/docker/engine/json.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { type Body, part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { startLxc } from '../../support/lxc.js';
import { freePort } from '../../support/servers/free-port.js';
import { backUp, makeJob, restore, restorePlan } from '../fidelity/bench.js';

const docker = await ownDockerd(t);
const a = await makeAppliance(t, { dockerd: docker });
const of = (name: string) => join(a.folder, name);

const port = await freePort();
const conf = of('conf');

async function makeWeb(): Promise<void> {
  await docker.sampleImage('sample:1');
  await mkdir(conf);
  await writeFile(join(conf, 'file'), 'conf');
  for (const [Name, Subnet] of [
    ['front', '10.213.94.0/24'],
    ['other', '10.213.95.0/24'],
  ]) {
    await docker.client.json('POST', '/networks/create', { body: { Name, IPAM: { Config: [{ Subnet }] } } });
  }
  await docker.run('web', {
    Image: 'sample:1',
    Cmd: ['/bin/sleep', '100000'],
    ExposedPorts: { '80/tcp': {} },
    MacAddress: '02:42:0a:d5:5e:09',
    HostConfig: {
      NetworkMode: 'front',
      Binds: ['web-data:/data', `${conf}:/conf`],
      PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: String(port) }] },
    },
    NetworkingConfig: { EndpointsConfig: { front: { IPAMConfig: { IPv4Address: '10.213.94.9' } } } },
  });
  await docker.exec('web', 'echo data > /data/file');
}

const inspectOf = async (name: string) => fields(await docker.client.json('GET', `/containers/${name}/json`));

/** The engine's values of the settings that a remap can change. */
async function setUpOf(name: string): Promise<object> {
  const inspect = await inspectOf(name);
  const networks = Object.entries(fields(fields(inspect.NetworkSettings).Networks)).map(([network, endpoint]) => [
    network,
    text(fields(endpoint).IPAddress),
  ]);
  const bindings = items(fields(fields(inspect.HostConfig).PortBindings)['80/tcp']).map(fields);
  const mounts = items(inspect.Mounts).map(fields);
  return {
    running: fields(inspect.State).Running,
    networks: Object.fromEntries(networks),
    port: text(bindings[0]?.HostPort),
    mounts: mounts.map((mount) => text(mount.Name) || text(mount.Source)).sort(),
  };
}

await makeWeb();
const web = { portfolio: 'web', container: 'web', type: 'docker' } as const;
await backUp(a.service, await makeJob(a.service, { name: 'web', container: 'web', type: 'docker' }));
const confSource = conf.replace(/^\/+/, '').replace(/[^a-zA-Z0-9._-]+/g, '-');

t.test("Docker: the fixes of a plan's conflicts let a clone run beside the original", async (t) => {
  const bare = await restorePlan(a.service, { ...web, container: 'twin' });
  t.match(part(bare, 'conflicts'), [{ code: 'port_taken' }, { code: 'address_taken' }]);
  const other = await freePort();
  const remap = {
    ports: { [port]: other },
    network: { front: { to: 'other', address: '10.213.95.77' } },
    volumes: { 'web-data': 'twin-data', [confSource]: of('twin-conf') },
  };
  t.same(part(await restorePlan(a.service, { ...web, container: 'twin', remap }), 'conflicts'), []);
  const before = await setUpOf('web');
  t.match(await restore(a.service, { ...web, container: 'twin', remap }), { result: 0 });
  t.same(await setUpOf('twin'), {
    running: true,
    networks: { other: '10.213.95.77' },
    port: String(other),
    mounts: [of('twin-conf'), 'twin-data'],
  });
  await docker.exec('twin', 'read a < /data/file && [ $a = data ] && read b < /conf/file; [ "$b" = conf ]');
  t.same(await setUpOf('web'), before, 'the original is as it was');
});

t.test('Docker: a restore in place changes only what the remap names', async (t) => {
  const remap = { network: { front: { address: '10.213.94.50' } } };
  const before = await setUpOf('web');
  await restore(a.service, { ...web, remap });
  t.same(await setUpOf('web'), { ...before, networks: { front: '10.213.94.50' } });
});

t.test('Docker: the engine chooses the address in another network unless the remap gives one', async (t) => {
  const remap = { name: 'third', ports: { [`${port}/tcp`]: 0 }, network: { front: { to: 'other' } } };
  await restore(a.service, { ...web, remap });
  t.match(await setUpOf('third'), { running: true, port: '', networks: { other: /^10\.213\.95\.\d+$/ } });
  t.equal((await inspectOf('web')).Name, '/web');
});

async function stateOf(type: string, name: string): Promise<unknown> {
  const all: unknown = await a.service.call('GET', '/container/');
  const found = Array.isArray(all) ? all.find((one) => part(one, 'type') === type && part(one, 'id') === name) : undefined;
  return part(found, 'state');
}

async function refused(
  t: Test,
  remap: Body,
  code: string,
  said: RegExp,
  wish: { readonly portfolio: string; readonly type: string } = web,
): Promise<void> {
  const id = await a.service.create('restore', {
    job_name: 'refused',
    container_id: 'refused',
    type: wish.type,
    src: { target: 'local', path: '/test/backups', portfolio: wish.portfolio },
    remap,
  });
  const state = await a.service.settled('restore', id);
  t.match(state, { result: -1, error: { code, message: said } }, JSON.stringify(remap));
}

const box = { portfolio: 'box', container: 'box', type: 'lxc' } as const;

t.test('Docker: a remap of an unknown port, network or volume, or to a taken one, is refused by name', async (t) => {
  await refused(t, { ids: [] }, 'unsupported', /whole engine/);
  await refused(t, { ports: { '81': 82 } }, 'invalid', /names 81, which the container does not have/);
  await refused(t, { network: { nothing: { to: 'other' } } }, 'invalid', /names nothing.*it has front/);
  await refused(t, { network: { front: { address: '10.1.2.3.4' } } }, 'invalid', /no IP address/);
  await refused(t, { volumes: { 'web-data': 'web-data' } }, 'exists', /there is a volume web-data already/);
  await refused(t, { volumes: { [confSource]: conf } }, 'exists', /not empty/);
  await refused(t, { volumes: { [confSource]: '/etc/cron.d' } }, 'invalid', /outside the system's own/);
  await refused(t, { volumes: { [confSource]: `${conf}/../x` } }, 'invalid', /outside the system's own/);
  t.equal(await stateOf('docker', 'refused'), undefined);
  const asked = {
    job_name: 'x',
    container_id: 'refused',
    type: 'docker',
    src: { target: 'local', path: '/test/backups', portfolio: 'web' },
  };
  const plan = await a.service.ask('POST', '/restore/plan', { ...asked, remap: { ports: { '81': 82 } } });
  t.match(plan, { status: 400, text: /names 81, which the container does not have/ }, 'a plan says so too');
  for (const remap of [
    { ports: { web: 1 } },
    { ports: { '80': 70_000 } },
    { mac: 'any' },
    { network: { front: {} } },
    { ids: ['0 1'] },
    { x: 1 },
  ]) {
    const { status, text } = await a.service.ask('POST', '/restore', { ...asked, remap });
    t.match({ status, text }, { status: 400, text: /\/remap/ }, JSON.stringify(remap));
  }
});

/** Owners, ACLs and capabilities as the container sees them, with a given host id for its root. */
async function insideOf(root: string, first: number): Promise<string[]> {
  const lines = async (...command: [string, ...string[]]) => (await childOutput(command[0], command.slice(1), { cwd: root })).split('\n');
  const own = (text: string) => String(Number(text) - first);
  const owners = await lines('find', '.', '-printf', '%p %U %G %m %n\\n');
  const acls = await lines('getfacl', '-R', '-P', '-n', '--skip-base', '.');
  const capabilities = await lines('getfattr', '-R', '-h', '-d', '-m', 'security', '-e', 'hex', '.');
  return [
    ...owners.map((line) => line.replace(/ (\d+) (\d+) (\d+ \d+)$/, (_, uid, gid, rest) => ` ${own(uid)} ${own(gid)} ${rest}`)),
    ...acls
      .filter((line) => !/^# (owner|group)/.test(line))
      .map((line) => line.replace(/(user|group):(\d+):/, (_, kind, id) => `${kind}:${own(id)}:`)),
    ...capabilities.map((line) => line.replace(/(?<=0x01)000003([0-9a-f]{32})[0-9a-f]{8}$/, '000002$1')),
  ].sort();
}

t.test('LXC: a remap of ids changes the id map and the owners of all files', async (t) => {
  await a.lxc('shifted', { shifted: true, stopped: true });
  for (const name of ['moved', 'plain', 'again']) a.alsoDestroy(name);
  const root = join(a.lxcPath, 'shifted/rootfs');
  const make = [
    'mkdir home; echo a >home/a; ln home/a home/b; ln -s a home/link; cp bin/busybox home/tool; echo x >"home/odd  ü\\n"',
    'chown -hR 100000:100000 home; chown -h 100033:100044 home/a home/link "home/odd  ü\\n"; chmod 4755 home/tool; chmod 2775 home; mknod home/null c 1 3; chown 100000:100005 home/null',
    'setfacl -m u:100007:rw,g:100008:r home/a; setfacl -d -m u:100009:rwx home; cp bin/busybox home/able; chown 100000:100000 home/able; setcap -n 100000 cap_net_raw+ep home/able',
  ];
  await childOutput('sh', ['-ec', make.join('\n')], { cwd: root });
  await startLxc(a.lxcPath, 'shifted');
  await backUp(a.service, await makeJob(a.service, { name: 'shifted', container: 'shifted', type: 'lxc' }));
  const inside = await insideOf(root, 100_000);
  const wish = { portfolio: 'shifted', type: 'lxc' } as const;
  const ids = ['u 0 120000 40000', 'g 0 120000 40000'];

  await restore(a.service, { ...wish, container: 'moved', remap: { ids } });
  t.same(differing(inside, await insideOf(join(a.lxcPath, 'moved/rootfs'), 120_000)), []);
  t.equal(await stateOf('lxc', 'moved'), 'running');
  await restore(a.service, { ...wish, container: 'plain', remap: { ids: [] } });
  t.same(differing(inside, await insideOf(join(a.lxcPath, 'plain/rootfs'), 0)), []);
  t.equal(await stateOf('lxc', 'plain'), 'running');

  await backUp(a.service, await makeJob(a.service, { name: 'plain', container: 'plain', type: 'lxc' }));
  await restore(a.service, { portfolio: 'plain', type: 'lxc', container: 'again', remap: { ids } });
  t.same(differing(inside, await insideOf(join(a.lxcPath, 'again/rootfs'), 120_000)), [], 'and from not idmapped to idmapped');
  t.equal((await stat(join(a.lxcPath, 'again/volumes/data/file'))).uid, 120_000, 'its volume too');
  const narrow = { ids: ['u 0 120000 33', 'g 0 120000 33'] };
  await refused(t, narrow, 'invalid', /does not map (user|group) (33|44)/, { ...wish });
});

const differing = (wanted: readonly string[], found: readonly string[]): string[] => [
  ...wanted.filter((line) => !found.includes(line)).map((line) => `- ${line}`),
  ...found.filter((line) => !wanted.includes(line)).map((line) => `+ ${line}`),
];

const links = ['cbremap0', 'cbremap1'] as const;

async function makeBridges(t: Pick<Test, 'teardown'>): Promise<void> {
  for (const link of links) {
    await childOutput('ip', ['link', 'add', link, 'type', 'bridge']);
    t.teardown(() => childOutput('ip', ['link', 'delete', link]));
  }
}

t.test('LXC: a remap sets network, address, hardware address and volume', async (t) => {
  await makeBridges(t);
  const network = [
    `lxc.net.0.link = ${links[0]}`,
    'lxc.net.0.flags = up',
    'lxc.net.0.ipv4.address = 10.213.96.9/24',
    'lxc.net.0.ipv4.gateway = 10.213.96.1',
  ];
  await a.lxc('box', { lines: network });
  for (const name of ['boxtwin', 'boxthird']) a.alsoDestroy(name);
  await backUp(a.service, await makeJob(a.service, { name: 'box', container: 'box', type: 'lxc' }));
  t.match(part(await restorePlan(a.service, { ...box, container: 'boxtwin' }), 'conflicts'), [{ code: 'address_taken' }]);

  const remap = { mac: 'keep', network: { [links[0]]: { to: links[1], address: '10.213.97.20' } }, volumes: { data: of('box-data') } };
  t.same(part(await restorePlan(a.service, { ...box, container: 'boxtwin', remap }), 'conflicts'), []);
  t.match(await restore(a.service, { ...box, container: 'boxtwin', remap }), { result: 0 });
  const config = await readFile(join(a.lxcPath, 'boxtwin/config'), 'utf8');
  for (const line of ['link = cbremap1', 'ipv4.address = 10.213.97.20/24', 'hwaddr = 00:16:3e:01:02:03']) {
    t.ok(config.includes(`lxc.net.0.${line}\n`), line);
  }
  t.equal(await stateOf('lxc', 'boxtwin'), 'running');
  t.equal(await readFile(of('box-data/file'), 'utf8'), 'data of box\n');
  t.ok(config.includes(`lxc.mount.entry = ${of('box-data')} data none`), 'mounted where it was');

  await restore(a.service, { ...box, remap: { name: 'boxthird', network: { [links[0]]: { to: links[1] } } } });
  const third = await readFile(join(a.lxcPath, 'boxthird/config'), 'utf8');
  t.match(third, /lxc\.net\.0\.ipv4\.address =\s*\n/, 'no fixed address in another network');
  t.equal(await stateOf('lxc', 'boxthird'), 'running');

  await restore(a.service, { ...box, remap: { mac: 'new' } });
  const own = await readFile(join(a.lxcPath, 'box/config'), 'utf8');
  t.match(own, /hwaddr = 00:16:3e:(?!01:02:03)/);
  t.match(own, /ipv4\.address = 10\.213\.96\.9\/24/);

  await refused(t, { ports: { '80': 81 } }, 'unsupported', /LXC publishes no ports/, box);
  await refused(t, { network: { br9: { to: links[1] } } }, 'invalid', /names br9.*it has cbremap0/, box);
  await refused(t, { volumes: { data: of('box-data') } }, 'exists', /not empty/, box);
});
