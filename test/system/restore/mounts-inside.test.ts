/** File systems that are mounted inside a bound folder, symbolic links in its path, and undos that fail. */
import { lstat, mkdir, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { backUp, makeJob, restore } from '../fidelity/bench.js';
import { Household } from '../household/bed.js';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');

/** Mounts until the end of the test. @returns a function that unmounts earlier */
async function mounted(t: Test, args: readonly string[], at: string): Promise<() => Promise<void>> {
  await mkdir(at, { recursive: true });
  await childOutput('mount', [...args, at]);
  let on = true;
  const off = async () => {
    if (on) await childOutput('umount', ['-l', at]);
    on = false;
  };
  t.teardown(off);
  return off;
}

const appliance = (t: Test, dockerd: Dockerd, hours = '0') => makeAppliance(t, { dockerd, flags: ['--undo-hours', hours] });

for (const type of ['lxc', 'docker'] as const) {
  t.test(`${type}: a file system mounted inside a folder is left out, reported and never moved`, async (t) => {
    const a = await appliance(t, docker, '1');
    const media = join(a.folder, 'media');
    const disk = join(a.folder, 'disk');
    for (const folder of [media, disk]) await mkdir(folder);
    await writeFile(join(disk, 'film'), 'on a disk of its own');
    const name = `inside-${type}`;
    // another file system, and a bind mount of the same one, whose device number tells tar nothing
    const offs = [
      await mounted(t, ['-t', 'tmpfs', '-o', 'size=1m', 'none'], join(media, 'usb')),
      await mounted(t, ['--bind', disk], join(media, 'bound [1]')),
    ];
    await writeFile(join(media, 'usb/file'), 'on the stick');
    await writeFile(join(media, 'own'), 'as it was');
    await new Household(t, a, docker).container(type, name, { '/srv': media });
    const job = await makeJob(a.service, { name, container: name, type, features: ['pause'] });
    const run = await backUp(a.service, job);
    const leftOut = part(await a.service.call('GET', `/backup/${job}/runs/${run}`), 'left_out');
    for (const inner of ['usb', 'bound [1]']) {
      const found = (Array.isArray(leftOut) ? leftOut : []).filter((one) => part(one, 'path') === join(media, inner));
      t.match(found, [{ reason: /mounted inside/ }], `${inner} is told as left out`);
    }
    await writeFile(join(media, 'own'), 'changed');
    await writeFile(join(media, 'made-later'), '');
    const mountedFiles = async () => [
      await readFile(join(media, 'usb/file'), 'utf8'),
      await readFile(join(media, 'bound [1]/film'), 'utf8'),
    ];
    const src = { target: 'local', path: '/test/backups', portfolio: name };
    const id = await a.service.create('restore', { job_name: 'back', container_id: name, type, src });
    await a.service.ended('restore', id);
    t.same(
      (await readdir(media)).filter((one) => !one.startsWith('.')).sort(),
      ['bound [1]', 'own', 'usb'],
      'in place: restored around them',
    );
    t.equal(await readFile(join(media, 'own'), 'utf8'), 'as it was');
    t.same(await mountedFiles(), ['on the stick', 'on a disk of its own'], 'the mounts are where they were');
    await a.service.call('PUT', `/restore/${id}/undo`);
    t.equal(await readFile(join(media, 'own'), 'utf8'), 'changed', 'and so in an undo');
    t.same(await mountedFiles(), ['on the stick', 'on a disk of its own']);
    t.same((await readdir(media)).sort(), ['bound [1]', 'made-later', 'own', 'usb'], 'nothing is left in it');
    const clone = `${name}-clone`;
    a.alsoDestroy(clone);
    await restore(a.service, { portfolio: name, container: clone, type });
    if (type === 'docker') t.teardown(() => docker.removeContainer(clone));
    const copy = `${media}.${clone}`;
    t.same((await readdir(copy)).sort(), ['bound [1]', 'own', 'usb'], 'a clone has the folder');
    t.same([await readdir(join(copy, 'usb')), await readdir(join(copy, 'bound [1]'))], [[], []], 'without what was mounted in it');
    for (const off of offs) await off();
    await restore(a.service, { portfolio: name, container: name, type });
    t.equal(await readFile(join(media, 'own'), 'utf8'), 'as it was', 'unmounted, it is restored');
    t.equal(await readFile(join(disk, 'film'), 'utf8'), 'on a disk of its own', 'and the disk is untouched');
  });

  t.test(`${type}: a symbolic link in the path of a folder stays, and its target is restored`, async (t) => {
    const a = await appliance(t, docker);
    const [disk, link] = [join(a.folder, 'disk/data'), join(a.folder, 'data')];
    await mkdir(disk, { recursive: true });
    await symlink(disk, link);
    await writeFile(join(disk, 'file'), 'as it was');
    const name = `linked-${type}`;
    await new Household(t, a, docker).container(type, name, { '/srv': link });
    await backUp(a.service, await makeJob(a.service, { name, container: name, type }));
    await writeFile(join(disk, 'file'), 'changed');
    await restore(a.service, { portfolio: name, container: name, type });
    t.ok((await lstat(link)).isSymbolicLink(), 'the link is still one');
    t.equal(await realpath(link), disk);
    t.equal(await readFile(join(disk, 'file'), 'utf8'), 'as it was');
    t.same(await readdir(join(a.folder, 'disk')), ['data'], 'nothing is left beside it');
    await rm(join(a.folder, 'disk'), { recursive: true });
    await restore(a.service, { portfolio: name, container: name, type });
    t.ok((await lstat(link)).isSymbolicLink(), 'what it leads to is lost: the link is still one');
    t.equal(await readFile(join(disk, 'file'), 'utf8'), 'as it was', 'and what it led to is back');
  });

  t.test(`${type}: a failed undo can be repeated, and blocks no other restore`, async (t) => {
    const a = await appliance(t, docker, '1');
    const [folder, other] = [join(a.folder, 'top/data'), join(a.folder, 'other')];
    for (const one of [folder, other]) await mkdir(one, { recursive: true });
    const [name, neighbour] = [`stuck-${type}`, `neighbour-${type}`];
    await writeFile(join(folder, 'file'), 'of the run');
    await new Household(t, a, docker).container(type, name, { '/srv': folder });
    await new Household(t, a, docker).container(type, neighbour, { '/srv': other });
    for (const one of [name, neighbour]) await backUp(a.service, await makeJob(a.service, { name: one, container: one, type }));
    await writeFile(join(folder, 'file'), 'before the restore');
    const id = await a.service.create('restore', {
      job_name: 'back',
      container_id: name,
      type,
      src: { target: 'local', path: '/test/backups', portfolio: name },
    });
    await a.service.ended('restore', id);
    await childOutput('chattr', ['+i', join(a.folder, 'top')]); // no entry of it can be renamed
    t.teardown(() => childOutput('chattr', ['-i', join(a.folder, 'top')]));
    t.ok((await a.service.ask('PUT', `/restore/${id}/undo`)).status >= 400, 'the undo fails');
    await restore(a.service, { portfolio: neighbour, container: neighbour, type });
    t.pass('another container is restored meanwhile');
    await childOutput('chattr', ['-i', join(a.folder, 'top')]);
    const again = await a.service.ask('PUT', `/restore/${id}/undo`);
    t.equal(again.status, 200, `it is asked for again: ${again.text}`);
    t.equal(await readFile(join(folder, 'file'), 'utf8'), 'before the restore', 'and brings back what was there');
    t.same(await readdir(join(a.folder, 'top')), ['data'], 'nothing is left beside it');
    await rm(other, { recursive: true, force: true });
  });
}
