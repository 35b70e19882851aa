import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test, test } from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import plugin from '../../plugins/runtimes/lxc/index.js';
import { fill, planOf, rejectsWith, runtimeConformance, type Saved, save, stateOf } from '../conformance/runtime/index.js';
import { destroyLxc, lxc, makeLxcContainer, makeLxcPath, startLxc } from '../support/lxc.js';

const { signal } = new AbortController();

function open(path: string): Promise<Runtime> {
  return plugin.open({ log: () => undefined, options: { path }, signal, stateFolder: path });
}

/** A path of the test's own, whose containers are destroyed at its end. */
async function pathFor(t: Test): Promise<string> {
  const path = await makeLxcPath();
  t.teardown(async () => {
    for (const name of await readdir(path)) await destroyLxc(path, name);
    await rm(path, { force: true, recursive: true });
  });
  return path;
}

for (const shifted of [false, true]) {
  const path = await pathFor(t);
  runtimeConformance({
    name: shifted ? 'lxc with a shifted root' : 'lxc',
    open: () => open(path),
    async makeContainer(name) {
      await makeLxcContainer(path, name, { shifted });
      await startLxc(path, name);
    },
    removeContainer: (name) => destroyLxc(path, name),
  });
}

test('describes what the configuration says', async (t) => {
  const path = await pathFor(t);
  const host = await makeLxcPath();
  t.teardown(() => rm(host, { recursive: true }));
  await writeFile(join(host, 'app.conf'), 'x');
  const lines = [
    'lxc.arch = amd64',
    'lxc.start.auto = 1',
    'lxc.cgroup2.memory.max = 268435456',
    'lxc.net.0.ipv4.address = 10.0.3.7/24',
    `lxc.mount.entry = ${host}/app.conf etc/app.conf none bind,ro,create=file 0 0`,
    'lxc.mount.entry = /usr/lib usr/lib none bind,ro 0 0',
  ];
  await makeLxcContainer(path, 'one', { lines });
  await makeLxcContainer(path, 'two', { lines: [`lxc.mount.entry = ${host} srv none bind 0 0`] });
  await using runtime = await open(path);
  const description = await runtime.describe('one');
  t.match(description, {
    arch: 'x86_64',
    autostart: true,
    network: [{ address: '10.0.3.7/24', mac: '00:16:3e:01:02:03', name: 'veth' }],
    resource: { 'memory.max': 268435456 },
    state: 'stopped',
    volume: [
      { mountpoint: '/data', name: 'data', origin: 'new', read_only: false, shared_with: [] },
      { mountpoint: '/etc/app.conf', name: 'etc-app.conf', origin: 'host', read_only: true, shared_with: ['two'] },
    ],
  });
  t.equal(description.native.text, await readFile(join(path, 'one/config'), 'utf8'));
  t.strictSame(
    description.left_out.map((one) => one.path),
    ['tmpfs', '/usr/lib'],
  );
  t.match((await runtime.sources('one')).at(-1), { kind: 'file', path: join(host, 'app.conf') });
  await rm(join(path, 'one/volumes/data'), { recursive: true });
  await t.rejects(runtime.sources('one'), { code: 'not_found', message: /volume data/ });
});

test('a clone differs only in what it must', async (t) => {
  const path = await pathFor(t);
  const host = await makeLxcPath();
  t.teardown(async () => {
    await rm(host, { recursive: true });
    await rm(`${host}.copy`, { force: true, recursive: true });
  });
  await writeFile(join(host, 'shared'), 'of the host');
  const lines = [`lxc.mount.entry = ${host} srv none bind,create=dir 0 0`, 'lxc.net.0.ipv4.address = 10.0.3.7/24'];
  lines.push(`lxc.mount.entry = ${path}/one/app.conf etc/app.conf none bind,create=file 0 0`);
  await makeLxcContainer(path, 'one', { lines });
  await writeFile(join(path, 'one/app.conf'), 'one file');
  await startLxc(path, 'one');
  await using runtime = await open(path);
  const backup = await save(t, runtime, 'one');
  const draft = await runtime.draft(planOf(backup, 'copy', 'create'), { signal });
  await fill(draft, backup);
  t.match(await draft.commit(), { conflicts: [{ code: 'address_taken', what: '10.0.3.7' }] });
  t.equal(await stateOf(runtime, 'copy'), 'stopped', 'left stopped as its address is taken');
  const text = await readFile(join(path, 'copy/config'), 'utf8');
  const mac = /hwaddr = (00:16:3e:[0-9a-f:]{8})/.exec(text)?.[1] ?? '';
  t.not(mac, '00:16:3e:01:02:03');
  const expected = backup.description.native.text
    .replaceAll(`${path}/one/`, `${path}/copy/`)
    .replace('uts.name = one', 'uts.name = copy')
    .replace('00:16:3e:01:02:03', mac)
    .replace(`${host} srv`, `${host}.copy srv`);
  t.equal(text, expected, 'all else verbatim');
  t.equal(await readFile(join(path, 'copy/app.conf'), 'utf8'), 'one file');
  t.equal(await readFile(join(`${host}.copy`, 'shared'), 'utf8'), 'of the host');
  t.equal((await stat(join(path, 'copy/rootfs/etc/machine-id'))).size, 0, 'no machine id');
  t.equal(await readFile(join(path, 'copy/rootfs/etc/hostname'), 'utf8'), 'original\n');
  t.strictSame(await readdir(path), ['copy', 'one'], 'no leftovers');
});

test('replace brings the configuration back byte for byte', async (t) => {
  const path = await pathFor(t);
  await makeLxcContainer(path, 'one', { lines: [`lxc.mount.entry = ${path}/one/app.conf etc/app.conf none bind,create=file 0 0`] });
  await writeFile(join(path, 'one/app.conf'), 'one file');
  await startLxc(path, 'one');
  await using runtime = await open(path);
  const backup = await save(t, runtime, 'one');
  await writeFile(join(path, 'one/config'), `${backup.description.native.text}lxc.start.auto = 1\n`);
  await writeFile(join(path, 'one/app.conf'), 'changed');
  await lxc('freeze', path, 'one');
  const draft = await runtime.draft(planOf(backup, 'one', 'replace'), { signal });
  await fill(draft, backup);
  await draft.commit();
  t.equal(await readFile(join(path, 'one/config'), 'utf8'), backup.description.native.text);
  t.equal(await readFile(join(path, 'one/app.conf'), 'utf8'), 'one file');
  t.equal(await stateOf(runtime, 'one'), 'frozen', 'the state it had');
  t.strictSame(await readdir(path), ['one']);
  t.strictSame((await readdir(join(path, 'one'))).sort(), ['app.conf', 'config', 'rootfs', 'volumes']);
});

test('what cannot start is not put in place of what runs', async (t) => {
  const path = await pathFor(t);
  await makeLxcContainer(path, 'one');
  await startLxc(path, 'one');
  await using runtime = await open(path);
  const backup = await save(t, runtime, 'one');
  const { ino } = await stat(join(path, 'one/rootfs'));
  const draft = await runtime.draft(planOf(backup, 'one', 'replace'), { signal });
  await fill(draft, backup);
  await rm(join((await draft.folders()).get('rootfs') ?? '', 'sbin/init'));
  await rejectsWith(t, 'failed', draft.commit());
  t.equal(await stateOf(runtime, 'one'), 'running', 'the old one runs');
  t.equal((await stat(join(path, 'one/rootfs'))).ino, ino, 'and is the same');
  await draft.discard();
  t.strictSame((await readdir(join(path, 'one'))).sort(), ['config', 'rootfs', 'volumes']);
  t.strictSame(await readdir(path), ['one']);
});

/** Runs a draft in a process that kills itself: while building, or when lxc-start of the new one has just been called. */
async function killedDraft(path: string, backup: Saved, when: 'building' | 'swapping', action = 'replace'): Promise<void> {
  const lib = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const code = `
    import plugin from ${lib('../../plugins/runtimes/lxc/index.js')};
    import { fill, planOf } from ${lib('../conformance/runtime/index.js')};
    import { existsSync } from 'node:fs';
    const backup = ${JSON.stringify(backup)};
    const runtime = await plugin.open({ options: { path: ${JSON.stringify(path)} }, stateFolder: ${JSON.stringify(path)}, log() {} });
    const draft = await runtime.draft(planOf(backup, 'one', '${action}'), { signal: new AbortController().signal });
    await fill(draft, backup);
    const folder = (await draft.folders()).get('rootfs');
    if (${when === 'swapping'}) {
      const sign = ${action === 'create'} ? ${JSON.stringify(join(path, 'one/config'))} : folder.replace(/new$/, 'old');
      setInterval(() => { if (existsSync(sign)) process.kill(process.pid, 'SIGKILL'); }, 1);
      await draft.commit();
    }
    process.kill(process.pid, 'SIGKILL');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'ignore', 'inherit'] });
  await once(child, 'close');
}

for (const when of ['building', 'swapping'] as const) {
  test(`recover after a death while ${when}`, async (t) => {
    const path = await pathFor(t);
    await makeLxcContainer(path, 'one');
    await startLxc(path, 'one');
    await using runtime = await open(path);
    const backup = await save(t, runtime, 'one');
    await writeFile(join(path, 'one/volumes/data/later'), '');
    await killedDraft(path, backup, when);
    t.ok((await readdir(path)).length > 1, 'there is something to recover from');
    await runtime.recover();
    t.strictSame(await readdir(path), ['one']);
    t.strictSame((await readdir(join(path, 'one'))).sort(), ['config', 'rootfs', 'volumes']);
    t.strictSame(await readdir(join(path, 'one/volumes')), ['data']);
    t.ok((await readdir(join(path, 'one/volumes/data'))).includes('later'), 'the old volume is back');
    t.equal(await stateOf(runtime, 'one'), 'running');
  });
}

test('what is left of a container is as it was when the one that comes back does not start, or its restore dies', async (t) => {
  const path = await pathFor(t);
  await makeLxcContainer(path, 'one');
  await startLxc(path, 'one');
  await using runtime = await open(path);
  const backup = await save(t, runtime, 'one');
  await lxc('stop', path, 'one', '-k');
  for (const name of ['config', 'rootfs']) await rm(join(path, 'one', name), { recursive: true });
  await writeFile(join(path, 'one/volumes/data/file'), 'left');
  const isLeft = async (when: string) => {
    t.strictSame(
      [await readdir(path), await readdir(join(path, 'one')), await readdir(join(path, 'one/volumes'))],
      [['one'], ['volumes'], ['data']],
      when,
    );
    t.equal(await readFile(join(path, 'one/volumes/data/file'), 'utf8'), 'left', when);
  };
  const draft = await runtime.draft(planOf(backup, 'one', 'create'), { signal });
  await fill(draft, backup);
  await rm(join((await draft.folders()).get('rootfs') ?? '', 'sbin/init'));
  await rejectsWith(t, 'failed', draft.commit());
  await draft.discard();
  await isLeft('it does not start');
  for (const when of ['building', 'swapping'] as const) {
    await killedDraft(path, backup, when, 'create');
    t.ok((await readdir(join(path, 'one'))).length > 1, 'there is something to recover from');
    await runtime.recover();
    await isLeft(`a death while ${when}`);
  }
});

test('a volume that is a mount point is swapped entry by entry', async (t) => {
  const path = await pathFor(t);
  await makeLxcContainer(path, 'one');
  const data = join(path, 'one/volumes/data');
  const mount = async (command: string, ...args: string[]) => {
    const [code] = await once(spawn(command, args), 'close');
    t.equal(code, 0, command);
  };
  await mount('mount', '-t', 'tmpfs', 'tmpfs', data);
  try {
    await mkdir(join(data, 'sub'));
    await writeFile(join(data, 'sub/file'), 'kept');
    await using runtime = await open(path);
    const backup = await save(t, runtime, 'one');
    await rm(join(data, 'sub'), { recursive: true });
    await writeFile(join(data, 'later'), '');
    const draft = await runtime.draft(planOf(backup, 'one', 'replace'), { signal });
    await fill(draft, backup);
    await draft.commit();
    t.strictSame(await readdir(data), ['sub']);
    t.equal(await readFile(join(data, 'sub/file'), 'utf8'), 'kept');
  } finally {
    await mount('umount', data);
  }
});

test('a volume whose path is that of the root or of the configuration is refused', async (t) => {
  const path = await pathFor(t);
  await makeLxcContainer(path, 'one');
  await using runtime = await open(path);
  const backup = await save(t, runtime, 'one');
  for (const inner of ['config', 'rootfs', 'rootfs/etc']) {
    const volume = backup.description.volume.map((one) => ({ ...one, path: join(path, 'one', inner) }));
    const plan = { ...planOf(backup, 'copy', 'create'), description: { ...backup.description, volume } };
    await t.rejects(runtime.draft(plan, { signal }), { code: 'damaged', message: /volume data lies inside the root of copy/ }, inner);
  }
  t.strictSame(await readdir(path), ['one']);
});

test('a folder that is mounted twice, once by a link, is stored once and cloned as one', async (t) => {
  const path = await pathFor(t);
  const host = await makeLxcPath();
  t.teardown(() => rm(host, { recursive: true }));
  await mkdir(join(host, 'data/inner'), { recursive: true });
  await symlink('data', join(host, 'link'));
  await writeFile(join(host, 'data/inner/file'), 'as it was');
  const entry = (source: string, at: string) => `lxc.mount.entry = ${host}/${source} ${at} none bind,create=dir 0 0`;
  await makeLxcContainer(path, 'one', { lines: [entry('data', 'srv'), entry('link', 'linked'), entry('link/inner', 'inner')] });
  await using runtime = await open(path);
  const sources = await runtime.sources('one');
  t.match(sources.slice(2), [{ name: 'srv' }, { name: 'inner' }], 'once each');
  t.equal(sources.length, 4);
  t.ok(sources[2]?.excludes.includes('./inner'), 'what a link hides in it is stored by itself');
  const backup = await save(t, runtime, 'one');
  const draft = await runtime.draft(planOf(backup, 'copy', 'create'), { signal });
  await fill(draft, backup);
  await draft.commit();
  const text = await readFile(join(path, 'copy/config'), 'utf8');
  t.match(text, new RegExp(`entry = ${host}/data.copy srv `));
  t.match(text, new RegExp(`entry = ${host}/data.copy linked `), 'the clone writes to its own copy by either way');
});
