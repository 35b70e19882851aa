/** LXC containers that are partly lost or partly stored: a mounted folder inside an excluded part, and a container's folder
 *  without its configuration. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { lxc } from '../../support/lxc.js';
import { Household, inodeOf, textOf } from '../household/bed.js';

const docker = await ownDockerd(t);

const household = async (t: Test) => new Household(t, await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '1'] }), docker);

/** undefined when it is missing. */
async function stateOf({ a }: Household, name: string): Promise<unknown> {
  const all = await a.service.call('GET', '/container/?type=lxc');
  return part((Array.isArray(all) ? all : []).find((one) => part(one, 'id') === name) ?? {}, 'state');
}

const conflictsOf = async (h: Household, name: string, as = name) => part(await h.plan('lxc', name, as), 'conflicts');

/** Makes a container with the folder `app` and a mount inside it. The job excludes the folder that holds the mount. */
async function withPart(h: Household): Promise<{ readonly app: string; readonly films: string }> {
  const app = await h.folder('app');
  const films = await h.folder('app/inner/films');
  await h.container('lxc', 'one', { '/app': app, '/films': films });
  await writeFile(join(app, 'file'), 'of the run');
  await writeFile(join(films, 'film'), 'large');
  await h.backUp('lxc', 'one', ['app:/inner']);
  return { app, films };
}

const missing = (path: string) => ({
  code: 'folder_missing',
  what: `${path}, mounted at /films, is not there and is not restored`,
  fix: 'Bring it back; then start the container',
});

t.test(
  'a restore after the loss of a mounted, excluded folder makes the container, leaves it stopped and reports the folder',
  async (t) => {
    const h = await household(t);
    const { app, films } = await withPart(h);
    await h.lose('lxc', 'one');
    await rm(app, { recursive: true });
    t.same(await conflictsOf(h, 'one'), [missing(films)], 'the plan says so');
    const { state } = await h.restore('lxc', 'one');
    t.match(state, { result: 0, conflicts: [missing(films)] });
    t.equal(await stateOf(h, 'one'), 'stopped');
    t.equal(await textOf(app, 'file'), 'of the run');
    await mkdir(films, { recursive: true });
    await h.start('lxc', 'one');
    t.equal(await stateOf(h, 'one'), 'running', 'it starts as soon as the folder is back');
  },
);

t.test(
  'an excluded mounted folder stays mounted, a clone without it stays stopped, and a running container is not replaced without it',
  async (t) => {
    const h = await household(t);
    const { app, films } = await withPart(h);
    await h.lose('lxc', 'one');
    const { state } = await h.restore('lxc', 'one');
    t.match(state, { result: 0, conflicts: [] });
    t.same([await stateOf(h, 'one'), await textOf(films, 'film')], ['running', 'large']);
    const clone = await h.restore('lxc', 'one', 'two');
    t.match(clone.state, { result: 0, conflicts: [missing(`${app}.two/inner/films`)] });
    t.equal(await stateOf(h, 'two'), 'stopped');
    await rm(films, { recursive: true });
    await writeFile(join(app, 'file'), 'later');
    t.match(await h.refused('lxc', 'one'), { result: -1, error: { code: 'conflict', message: /films.* is not there .*one runs/ } });
    t.same([await stateOf(h, 'one'), await textOf(app, 'file')], ['running', 'later'], 'it could not have been started again');
  },
);

/** Makes a container with its own volume `data`, and removes its configuration and its root. */
async function withRest(h: Household, exclude?: readonly string[]): Promise<{ readonly own: string; readonly data: string }> {
  const own = join(h.a.lxcPath, 'one');
  const data = join(own, 'volumes/data');
  await h.container('lxc', 'one', {});
  await writeFile(join(data, 'file'), 'of the run');
  await h.backUp('lxc', 'one', exclude);
  await h.stop('lxc', 'one');
  await writeFile(join(data, 'file'), 'before it came back');
  for (const name of ['config', 'rootfs']) await rm(join(own, name), { recursive: true });
  return { own, data };
}

t.test('a volume that is left of a lost container is swapped in its restore, and an undo brings it back', async (t) => {
  const h = await household(t);
  const { own, data } = await withRest(h);
  const ino = await inodeOf(data);
  t.match(await h.plan('lxc', 'one'), {
    action: 'create',
    conflicts: [],
    places: [{}, { source: 'data', action: 'restore', after: data }],
  });
  const { id, state } = await h.restore('lxc', 'one');
  t.match(state, { result: 0, conflicts: [], undo: {} });
  t.same([await stateOf(h, 'one'), await textOf(data, 'file'), await inodeOf(data)], ['running', 'of the run', ino]);
  const init = await lxc('info', h.a.lxcPath, 'one', '-pH');
  await h.a.service.call('PUT', `/restore/${id}/undo`);
  t.notOk((await readdir('/proc')).includes(init), 'it does not run on without its configuration');
  t.same([await stateOf(h, 'one'), await textOf(data, 'file'), await inodeOf(data)], [undefined, 'before it came back', ino]);
  t.same([await readdir(own), await readdir(join(own, 'volumes'))], [['volumes'], ['data']], 'nothing else is left');
  const again = await h.restore('lxc', 'one');
  await h.a.service.call('DELETE', `/restore/${again.id}/undo`);
  t.same(
    [(await readdir(own)).sort(), await readdir(join(own, 'volumes'))],
    [['config', 'rootfs', 'volumes'], ['data']],
    'without an undo',
  );
  t.same([await stateOf(h, 'one'), await textOf(data, 'file')], ['running', 'of the run']);
});

t.test('a volume that is left and excluded is mounted as it is, and one of another container is joined', async (t) => {
  const h = await household(t);
  const { data } = await withRest(h, ['volume:data']);
  const { state } = await h.restore('lxc', 'one');
  t.match(state, { result: 0, conflicts: [], places: [{}, { source: 'data', action: 'keep', after: data }] });
  t.same([await stateOf(h, 'one'), await textOf(data, 'file')], ['running', 'before it came back']);

  const shared = await household(t);
  const rest = await withRest(shared);
  await shared.container('lxc', 'other', { '/shared': rest.data });
  const joined = await shared.restore('lxc', 'one');
  t.match(joined.state, {
    result: 0,
    places: [{}, { source: 'data', action: 'join', with: ['other'] }],
    warnings: [{ code: 'volume_joined' }],
  });
  t.same([await stateOf(shared, 'one'), await textOf(rest.data, 'file')], ['running', 'before it came back']);
});

t.test('the root of a container without a configuration is swapped in its restore, and an undo brings it back', async (t) => {
  const h = await household(t);
  const { own, data } = await withRest(h);
  await mkdir(join(own, 'rootfs/etc'), { recursive: true });
  await writeFile(join(own, 'rootfs/etc/left'), '');
  await rm(data, { recursive: true });
  const { id } = await h.restore('lxc', 'one');
  t.same([await stateOf(h, 'one'), await textOf(data, 'file')], ['running', 'of the run']);
  t.notOk((await readdir(join(own, 'rootfs/etc'))).includes('left'));
  await h.a.service.call('PUT', `/restore/${id}/undo`);
  t.same([await readdir(join(own, 'rootfs')), await readdir(join(own, 'rootfs/etc'))], [['etc'], ['left']]);
});

t.test("a folder under another name is not taken for the container's own", async (t) => {
  const h = await household(t);
  await withRest(h);
  await mkdir(join(h.a.lxcPath, 'two/volumes/data'), { recursive: true });
  t.match(await conflictsOf(h, 'one', 'two'), [{ code: 'name_taken' }]);
  t.match(await h.refused('lxc', 'one', 'two'), { result: -1, error: { code: 'exists' } });
  t.same(await readdir(join(h.a.lxcPath, 'two/volumes/data')), []);
});
