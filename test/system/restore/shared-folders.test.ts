/** Containers that share folders and volumes. A shared folder stays one, a running neighbour is never harmed, and clones get copies. */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { Household, inodeOf, kinds, sourceOf, textOf } from '../household/bed.js';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');

const household = async (t: Test) => new Household(t, await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '1'] }), docker);

/** The items of an answer's list whose `key` is `value`. */
function found(answer: unknown, list: string, key: string, value: string): unknown[] {
  const all = part(answer, list);
  return (Array.isArray(all) ? all : []).filter((one) => part(one, key) === value);
}

for (const kind of kinds) {
  const named = (name: string) => `${name}-${kind}`;

  t.test(`${kind}: two lost containers come back with one shared folder`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('shared');
    const [web, db] = [named('web'), named('db')];
    const volume = kind === 'docker' ? { '/own': 'shared-volume' } : {};
    for (const name of [web, db]) await h.container(kind, name, { '/app': folder, ...volume });
    await writeFile(join(folder, 'file'), 'of the run');
    for (const name of [web, db]) await h.backUp(kind, name);
    for (const name of [web, db]) await h.lose(kind, name);
    await rm(folder, { recursive: true });
    if (kind === 'docker') await docker.client.json('DELETE', '/volumes/shared-volume?force=1');
    await h.restore(kind, web);
    await writeFile(join(folder, 'file'), 'web went on');
    const { state } = await h.restore(kind, db);
    t.equal(await textOf(folder, 'file'), 'web went on', 'the second joins, and does not put it back');
    t.match(state, { result: 0, warnings: [{ code: 'volume_joined', names: [web] }] });
    t.match(found(state, 'places', 'after', folder), [{ action: 'join' }]);
    if (kind === 'docker') t.match(found(state, 'places', 'after', 'shared-volume'), [{ action: 'join' }]);
  });

  t.test(`${kind}: a lost container comes back into its existing folders, and an undo brings their files back`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('kept');
    const name = named('again');
    await h.container(kind, name, { '/app': folder });
    await writeFile(join(folder, 'file'), 'of the run');
    await h.backUp(kind, name);
    await h.lose(kind, name);
    await writeFile(join(folder, 'file'), 'before it came back');
    const ino = await inodeOf(folder);
    const { id, state } = await h.restore(kind, name);
    t.match(found(state, 'places', 'before', folder), [{ action: 'restore', after: folder }]);
    t.equal(await textOf(folder, 'file'), 'of the run');
    t.equal(await inodeOf(folder), ino, 'the folder is the same one');
    await h.a.service.call('PUT', `/restore/${id}/undo`);
    t.equal(await textOf(folder, 'file'), 'before it came back');
  });

  t.test(`${kind}: a running neighbour with the same folder, a parent or a child of it prevents a restore and an undo`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('top/middle');
    await h.folder('top/middle/inner');
    const name = named('subject');
    await h.container(kind, name, { '/app': folder });
    await writeFile(join(folder, 'file'), 'of the run');
    await h.backUp(kind, name);
    await writeFile(join(folder, 'file'), 'later');
    for (const [n, place] of ['top', 'top/middle', 'top/middle/inner'].entries()) {
      const neighbour = named(`neighbour${n}`);
      await h.container(kind, neighbour, { '/shared': join(h.a.folder, place) });
      const inUse = { code: 'volume_in_use', what: `${neighbour} uses ${folder} too` };
      t.match(found(await h.plan(kind, name), 'conflicts', 'code', 'volume_in_use'), [inUse]);
      t.match(await h.refused(kind, name), { result: -1, error: { code: 'in_use', message: new RegExp(neighbour) } });
      t.equal(await textOf(folder, 'file'), 'later', `${place}: nothing is touched`);
      await h.stop(kind, neighbour);
    }
    const { id } = await h.restore(kind, name);
    t.equal(await textOf(folder, 'file'), 'of the run', 'stopped ones are no hindrance');
    await h.start(kind, named('neighbour0'));
    const undo = await h.a.service.ask('PUT', `/restore/${id}/undo`);
    t.ok(undo.status >= 400 && undo.text.includes(named('neighbour0')), `an undo is refused: ${undo.text}`);
    t.equal(await textOf(folder, 'file'), 'of the run');
    await h.stop(kind, named('neighbour0'));
    await h.a.service.call('PUT', `/restore/${id}/undo`);
    t.equal(await textOf(folder, 'file'), 'later');
  });

  t.test(`${kind}: a restore over a clone swaps the clone's own folder, and the original runs on`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('data');
    const [name, clone] = [named('origin'), named('clone')];
    await h.container(kind, name, { '/app': folder });
    await writeFile(join(folder, 'file'), 'of the run');
    await h.backUp(kind, name);
    await h.restore(kind, name, clone);
    const copy = `${folder}.${clone}`;
    await writeFile(join(copy, 'file'), 'the clone went on');
    await writeFile(join(folder, 'file'), 'the original went on');
    const { state } = await h.restore(kind, name, clone);
    t.match(state, { conflicts: [] }, 'nothing is in the way');
    t.same([await textOf(copy, 'file'), await textOf(folder, 'file')], ['of the run', 'the original went on']);
  });

  t.test(`${kind}: an excluded folder is mounted in a clone, and without it the clone stays stopped`, async (t) => {
    const h = await household(t);
    const [folder, media] = [await h.folder('data'), await h.folder('media')];
    const name = named('partly');
    await h.container(kind, name, { '/app': folder, '/media': media });
    await writeFile(join(media, 'film'), 'large');
    await h.backUp(kind, name, [`${sourceOf(kind, '/media', media)}:*`]);
    const { state } = await h.restore(kind, name, named('viewer'));
    t.match(found(state, 'places', 'before', media), [{ action: 'keep', after: media }]);
    t.equal(await textOf(media, 'film'), 'large');
    await rm(media, { recursive: true });
    const other = await h.restore(kind, name, named('blind'));
    t.match(other.state, { result: 0, conflicts: [{ code: 'folder_missing' }] });
    const all = await h.a.service.call('GET', `/container/?type=${kind}`);
    const blind = (Array.isArray(all) ? all : []).find((one) => part(one, 'id') === named('blind'));
    t.equal(part(blind, 'state'), 'stopped');
  });
}

for (const [kind, other] of [
  ['docker', 'lxc'],
  ['lxc', 'docker'],
] as const) {
  t.test(`${kind}: a running ${other} container with the folder prevents a restore too`, async (t) => {
    const h = await household(t);
    const folder = await h.folder('both');
    const [name, neighbour] = [`mine-${kind}`, `theirs-${other}`];
    await h.container(kind, name, { '/app': folder });
    await writeFile(join(folder, 'file'), 'of the run');
    await h.backUp(kind, name);
    await writeFile(join(folder, 'file'), 'later');
    await h.container(other, neighbour, { '/shared': folder });
    const inUse = { code: 'volume_in_use', what: new RegExp(`^${other} container`, 'i') };
    t.match(found(await h.plan(kind, name), 'conflicts', 'code', 'volume_in_use'), [inUse]);
    t.match(await h.refused(kind, name), { result: -1, error: { code: 'in_use' } });
    t.equal(await textOf(folder, 'file'), 'later');
    await h.stop(other, neighbour);
    await h.restore(kind, name);
    t.equal(await textOf(folder, 'file'), 'of the run');
  });
}
