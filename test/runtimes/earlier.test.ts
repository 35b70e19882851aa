/** What restores of the version before left is taken over: a draft is removed, a half-done swap goes back, and what was kept can be brought
 *  back or dropped. The samples are what that version really left of a container `web`: killed while it drafted (`draft`), killed
 *  at a rename in the middle of its swap (`swap`), and with an undo to be kept (`done`). They hold its journals, and its folders
 *  but for busybox; paths begin with /tmp/earlier-<engine>. */
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import { fields, flag, items, text } from '../../plugins/runtimes/docker/engine/json.js';
import dockerPlugin from '../../plugins/runtimes/docker/index.js';
import lxcPlugin from '../../plugins/runtimes/lxc/index.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { stateOf } from '../conformance/runtime/index.js';
import { ownDockerd } from '../support/appliance.js';
import { destroyLxc, startLxc } from '../support/lxc.js';

type Kind = 'docker' | 'lxc';
type Sample = 'draft' | 'swap' | 'done';

const { signal } = new AbortController();
const samples = fileURLToPath(new URL('../../../test/fixtures/earlier-swaps', import.meta.url));
const dockerd = await ownDockerd(t);
await dockerd.sampleImage('sample:1');

interface Bed {
  readonly top: string;
  readonly state: string;
  readonly runtime: Runtime;
}

/** All paths of a folder, but what the containers' roots hold. */
const pathsIn = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true })).filter((path) => !/rootfs[^/]*\//.test(path)).sort();

async function unpack(t: Test, kind: Kind, sample: Sample): Promise<string> {
  const top = await mkdtemp(join(tmpdir(), `earlier-${kind}-`));
  const disk = join(top, 'host/disk');
  await mkdir(disk, { recursive: true });
  await childOutput('chmod', ['755', top]);
  await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'none', disk]);
  t.teardown(async () => {
    await childOutput('umount', ['-l', disk]);
    if (kind === 'lxc') await destroyLxc(join(top, 'lxcpath'), 'web');
    await rm(top, { recursive: true, force: true });
  });
  await childOutput('tar', ['-C', top, '--acls', '--xattrs', '-xpzf', join(samples, `${kind}-${sample}.tar.gz`)]);
  for (const path of await readdir(top, { recursive: true })) {
    if (path.endsWith('/bin')) await copyFile('/bin/busybox', join(top, path, 'busybox'));
    if (!/^(journal\.json|draft-[0-9a-f]+\.json|config(\.container-backup-.*)?)$/.test(basename(path)) || path.includes('rootfs')) continue;
    const file = join(top, path);
    const old = await readFile(file, 'utf8').catch(() => undefined); // a draft's folder may be called so, too
    if (old !== undefined) await writeFile(file, old.replaceAll(`/tmp/earlier-${kind}/`, `${top}/`));
  }
  return top;
}

/** The containers that the journal names, as they were. */
async function makeContainers(t: Test, top: string): Promise<void> {
  const [name = ''] = (await readdir(join(top, 'state'))).filter((one) => one.endsWith('.json'));
  const file = join(top, 'state', name);
  const journal = fields(JSON.parse(await readFile(file, 'utf8')));
  const Binds = ['app', 'disk', 'web.conf'].map((one) => `${top}/host/${one}:/${one}`);
  const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none', Binds } };
  const make = async (as: string) => text(fields(await dockerd.client.json('POST', `/containers/create?name=${as}`, { body })).Id);
  const isDone = journal.phase === 'done';
  const newId = await make(isDone ? 'web' : `web.container-backup-${text(journal.rand)}`);
  const old = journal.phase === 'draft' ? 'web' : `web.container-backup-old-${text(journal.rand)}`;
  const oldId = await make(old);
  await writeFile(file, JSON.stringify({ ...journal, newId, oldId: journal.phase === 'draft' ? '' : oldId }));
  if (journal.phase === 'draft') await dockerd.client.json('POST', `/containers/${oldId}/start`);
  t.teardown(async () => {
    for (const row of items(await dockerd.client.json('GET', '/containers/json?all=1')))
      await dockerd.client.json('DELETE', `/containers/${text(fields(row).Id)}?force=1`);
  });
}

async function bed(t: Test, kind: Kind, sample: Sample): Promise<Bed> {
  const top = await unpack(t, kind, sample);
  const state = join(top, kind === 'lxc' ? 'lxcpath' : 'state');
  if (kind === 'docker') await makeContainers(t, top);
  else if (sample !== 'swap') await startLxc(state, 'web');
  const common = { log: () => undefined, signal, stateFolder: state };
  const runtime =
    kind === 'lxc'
      ? await lxcPlugin.open({ ...common, options: { path: state } })
      : await dockerPlugin.open({ ...common, options: { socket: dockerd.socket } });
  return { top, state, runtime };
}

const folders = ['app', 'app/cache', 'app/cache/kept', 'app/file', 'app/sub', 'app/sub/file'];
const host = (word: string) =>
  [...folders, `app/only-${word}`]
    .flatMap((one) => [one, one.replace('app', 'disk')])
    .concat('web.conf')
    .sort();

/** Every file says so, and nothing lies beside them. */
async function isAs(t: Test, { top, runtime }: Bed, word: 'before' | 'run'): Promise<void> {
  t.same(await pathsIn(join(top, 'host')), host(word));
  for (const file of ['app/file', 'app/sub/file', 'disk/file', 'disk/sub/file', 'web.conf', `disk/only-${word}`])
    t.equal(await readFile(join(top, 'host', file), 'utf8'), word, file);
  const rights = await childOutput('stat', ['-c', '%a %u:%g', join(top, 'host/app'), join(top, 'host/disk')]);
  if (word === 'before') t.equal(rights, '751 12:34\n751 12:34\n');
  t.match(await childOutput('getfacl', ['-cn', join(top, 'host/disk')]), /user:99:r-x/, 'the mount point has its ACL');
  t.equal(await stateOf(runtime, 'web'), 'running');
}

async function leftIn(kind: Kind, { state }: Bed): Promise<string[]> {
  const names = await readdir(state);
  if (kind === 'lxc')
    return [...names.filter((one) => one !== 'web'), ...(await readdir(join(state, 'web'))).filter((one) => one.includes('-'))];
  const rows = items(await dockerd.client.json('GET', '/containers/json?all=1')).map(fields);
  return [...names, ...rows.flatMap(({ Names }) => items(Names).map(text)).filter((one) => one !== '/web')];
}

const idIn = async ({ state }: Bed): Promise<string> => /swap-([0-9a-f]+)\.json/.exec((await readdir(state)).join(' '))?.[1] ?? '';

for (const kind of ['docker', 'lxc'] as const) {
  for (const sample of ['draft', 'swap'] as const) {
    t.test(`${kind}: a restore killed in the version before (${sample}) is reverted`, async (t) => {
      const b = await bed(t, kind, sample);
      await b.runtime.recover();
      await isAs(t, b, 'before');
      t.same(await leftIn(kind, b), [], 'and nothing else');
      if (kind === 'lxc') t.equal(await readFile(join(b.state, 'web/volumes/data/file'), 'utf8'), 'before');
    });
  }

  t.test(`${kind}: an undo of the version before brings the old files back`, async (t) => {
    const b = await bed(t, kind, 'done');
    await b.runtime.recover();
    await b.runtime.recover();
    const all = await pathsIn(join(b.top, 'host'));
    t.same(
      all.filter((one) => !one.includes('.container-backup-')),
      host('run'),
      'it is kept until its time has passed',
    );
    await b.runtime.undo(await idIn(b));
    await isAs(t, b, 'before');
    t.same(await leftIn(kind, b), []);
  });

  t.test(`${kind}: an undo of the version before is removed when its time has passed`, async (t) => {
    const b = await bed(t, kind, 'done');
    const [name = ''] = (await readdir(b.state, { recursive: true })).filter((one) => /(journal|draft-[0-9a-f]+)\.json$/.test(one));
    const journal = fields(JSON.parse(await readFile(join(b.state, name), 'utf8')));
    t.notOk(flag(journal.undoing));
    await writeFile(join(b.state, name), JSON.stringify({ ...journal, undoUntil: Date.now() - 1 }));
    if (kind === 'docker') await dockerd.client.json('POST', '/containers/web/start');
    await b.runtime.recover();
    await isAs(t, b, 'run');
    t.same(await leftIn(kind, b), []);
  });
}

t.test('an unreadable journal of the version before is reported and left, and the others are recovered', async (t) => {
  const b = await bed(t, 'lxc', 'swap');
  const bad = join(b.state, '.container-backup-draft-000000000000');
  await mkdir(bad);
  await writeFile(join(bad, 'journal.json'), '{"phase":');
  await t.rejects(b.runtime.recover(), { code: 'failed', message: /check it/ });
  await isAs(t, b, 'before');
  t.same(await readdir(bad), ['journal.json']);
});
