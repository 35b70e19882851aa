import { mkdtemp } from 'node:fs/promises';
import { test } from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import { type Fields, fields, text, texts } from '../../plugins/runtimes/docker/engine/json.js';
import plugin from '../../plugins/runtimes/docker/index.js';
import { fill, planOf, rejectsWith, type Saved, save, stateOf } from '../conformance/runtime/index.js';
import { conflictsOf } from '../conformance/runtime/preview.js';
import { startDockerd } from '../support/servers/dockerd.js';
import { freePort } from '../support/servers/free-port.js';

const { signal } = new AbortController();
const docker = await startDockerd();
await docker.sampleImage('sample:1');
const stateFolder = await mkdtemp(`${docker.folder}/state-`);
const runtime: Runtime = await plugin.open({ log: () => undefined, signal, stateFolder, options: { socket: docker.socket } });

const base = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL' };
const hostOf = async (name: string): Promise<Fields> =>
  fields(fields(await docker.client.json('GET', `/containers/${name}/json`)).HostConfig);

async function make(name: string, HostConfig: Fields = {}, more: Fields = {}): Promise<string> {
  return docker.run(name, { ...base, HostConfig: { NetworkMode: 'none', ...HostConfig }, ...more });
}

async function restored(saved: Saved, name: string, action: 'create' | 'replace'): Promise<readonly unknown[]> {
  const draft = await runtime.draft(planOf(saved, name, action), { signal });
  try {
    await fill(draft, saved);
    return (await draft.commit()).conflicts;
  } finally {
    await draft.discard();
  }
}

const modes = { NetworkMode: 'network', PidMode: 'processes', IpcMode: 'shared memory' };

test('a container that shares what another one has is kept and found by name', async (t) => {
  await make('vpn', { IpcMode: 'shareable' });
  const vpn = await save(t, runtime, 'vpn');
  for (const [field, what] of Object.entries(modes)) {
    const name = `with-${field}`;
    await make(name, { [field]: 'container:vpn', VolumesFrom: ['vpn:ro'] });
    const saved = await save(t, runtime, name);
    const kept = fields(fields(JSON.parse(saved.description.native.text)).HostConfig);
    t.match(kept, { [field]: 'container:vpn', VolumesFrom: ['vpn:ro'] });

    const dependent = [{ code: 'dependent', what: new RegExp(`^${name} shares the ${what} of vpn`), fix: new RegExp(`Restore ${name}`) }];
    t.match(await conflictsOf(runtime, planOf(vpn, 'vpn', 'replace')), dependent, 'the plan names it');
    t.match(await restored(vpn, 'vpn', 'replace'), dependent, 'so does the result');
    const state = await stateOf(runtime, name); // the end of a process namespace ends all in it
    t.strictSame(await restored(saved, name, 'replace'), []);
    t.equal(await stateOf(runtime, name), state);
    await docker.client.json('POST', `/containers/${name}/start`);
    t.equal((await hostOf(name))[field], `container:${text(fields(await docker.client.json('GET', '/containers/vpn/json')).Id)}`);
    t.equal(await stateOf(runtime, name), 'running');
    await docker.removeContainer(name);
  }
});

test('what it names is missing or stopped: it is made and left stopped, or refused, and told', async (t) => {
  const id = await make('gone', { IpcMode: 'shareable' });
  for (const field of Object.keys(modes)) await make(`of-${field}`, { [field]: 'container:gone' });
  const [net, pid, ipc] = await Promise.all(Object.keys(modes).map((field) => save(t, runtime, `of-${field}`)));
  if (!net || !pid || !ipc) throw new Error('three were saved');
  await docker.removeContainer('gone');
  const missing = [
    { code: 'reference_missing', what: 'It shares the network of gone, which is not there', fix: 'Restore gone, or make it' },
  ];
  for (const [name, saved] of Object.entries({ 'of-PidMode': pid, 'of-IpcMode': ipc })) {
    t.match(await conflictsOf(runtime, planOf(saved, `${name}-2`, 'create')), [{ code: 'reference_missing' }]);
    await rejectsWith(t, 'conflict', restored(saved, `${name}-2`, 'create'));
  }
  await rejectsWith(t, 'conflict', restored(net, 'of-NetworkMode', 'replace'));
  t.equal(await stateOf(runtime, 'of-NetworkMode'), 'running', 'the one that runs is not touched');
  t.strictSame(await conflictsOf(runtime, planOf(net, 'copy', 'create')), missing);
  t.strictSame(await restored(net, 'copy', 'create'), missing);
  t.equal(await stateOf(runtime, 'copy'), 'stopped');
  t.not((await hostOf('copy')).NetworkMode, `container:${id}`);

  await make('gone');
  await docker.client.json('POST', '/containers/gone/stop?t=0');
  t.match(await conflictsOf(runtime, planOf(net, 'copy', 'replace')), [{ code: 'reference_stopped', fix: 'Start gone' }]);
  await docker.client.json('POST', '/containers/gone/start');
  await docker.client.json('POST', '/containers/copy/start');
  t.equal(await stateOf(runtime, 'copy'), 'running', 'with the fix it starts');
  for (const name of [...Object.keys(modes).map((field) => `of-${field}`), 'copy', 'gone']) await docker.removeContainer(name);
});

test('a container that a legacy link gave another name is known by its own', async (t) => {
  const port = await freePort();
  const ports = { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: String(port) }] };
  await docker.client.json('POST', '/networks/create', { body: { Name: 'front' } });
  const shared = { NetworkMode: 'front', PortBindings: ports, Binds: ['shared:/data'] };
  await make('web', shared, { ExposedPorts: { '80/tcp': {} } });
  await docker.client.json('POST', '/containers/create?name=app', {
    body: { ...base, HostConfig: { NetworkMode: 'none', Links: ['web:alias'] } },
  });
  const rows = await docker.client.json('GET', '/containers/json?filters={"name":["web"]}');
  t.strictSame(texts(fields(Array.isArray(rows) ? rows[0] : {}).Names), ['/app/alias', '/web'], 'the engine tells the link first');
  await make('other', { Binds: ['shared:/data'] });
  t.match((await runtime.describe('other')).volume, [{ shared_with: ['web'] }]);
  await docker.removeContainer('other');

  const saved = await save(t, runtime, 'web');
  t.match(await conflictsOf(runtime, planOf(saved, 'web', 'replace')), [{ code: 'dependent', what: 'app has a link to web and loses it' }]);
  const taken = [{ code: 'port_taken', what: `Port tcp/${port} is held by container web` }];
  t.match(await conflictsOf(runtime, planOf(saved, 'twin', 'create')), taken);
  const app = await save(t, runtime, 'app');
  t.strictSame(await restored(app, 'app', 'replace'), [], 'the link comes back');
  t.strictSame((await hostOf('app')).Links, ['/web:/app/alias']);
  t.match(await restored(saved, 'web', 'replace'), [{ code: 'dependent' }]);
  t.equal(await stateOf(runtime, 'web'), 'running');
  for (const name of ['app', 'web']) await docker.removeContainer(name);
  await rejectsWith(t, 'conflict', restored(app, 'app', 'create'));
});

test('the engine ends', async () => {
  await docker[Symbol.asyncDispose]();
});
