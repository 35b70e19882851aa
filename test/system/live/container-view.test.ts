/** What the API says of a container: the big files that would make a pause long, and for how long. */
import { link, mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { startLxc } from '../../support/lxc.js';
import { ownFileSystem } from '../bed/own-file-system.js';

const mib = 2 ** 20;
const least = 16 * mib;
const dockerd = await ownDockerd(t);
const a = await makeAppliance(t, { dockerd, flags: ['--big-file-mib', '16'] });

const view = (type: string, id: string): Promise<unknown> => a.service.call('GET', `/container/${type}/${id}`);

/** A file of a hole costs no space. */
async function makeFile(path: string, size: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, size);
}

t.test('LXC: the largest big files of the root and the volumes, and nothing of what a backup leaves out', async (t) => {
  await a.lxc('web', { lines: [`lxc.mount.entry = ${join(a.folder, 'srv')} srv/media none bind,create=dir 0 0`], stopped: true });
  const srv = join(a.folder, 'srv');
  await mkdir(srv);
  await startLxc(a.lxcPath, 'web');
  const [root, data] = [join(a.lxcPath, 'web/rootfs'), join(a.lxcPath, 'web/volumes/data')];
  await makeFile(join(root, 'etc/index.bin'), least);
  await mkdir(join(data, 'db'));
  await makeFile(join(data, 'db/ibdata1'), 3 * 2 ** 30);
  await makeFile(join(data, 'größe\t.img'), 100 * mib);
  await writeFile(Buffer.from(`${data}/lat\xe9in.img`, 'latin1'), Buffer.alloc(18 * mib, 1));
  await makeFile(join(srv, 'film.mkv'), 2 ** 30);
  await makeFile(join(data, 'small'), least - 1);
  await makeFile(join(data, 'linked'), 64 * mib);
  await link(join(data, 'linked'), join(data, 'linked too'));
  await makeFile(join(data, '.container-backup-old.img'), 64 * mib);
  await makeFile(join(a.folder, 'outside.img'), 64 * mib);
  await symlink(join(a.folder, 'outside.img'), join(data, 'out.img'));
  await symlink(a.folder, join(data, 'out'));
  const found = await view('lxc', 'web');
  t.match(found, { id: 'web', name: 'web', image: '', state: 'running', type: 'lxc' });
  const sources = part(found, 'sources');
  const media = Array.isArray(sources) ? sources.find((one) => part(one, 'mountpoint') === '/srv/media') : undefined;
  t.match(media, { origin: 'host', kind: 'folder', path: srv });
  t.match(sources, [{ name: 'rootfs', mountpoint: '/', path: root }]);
  t.same(part(found, 'big_files'), [
    { source: 'data', path: '/data/db/ibdata1', size: 3 * 2 ** 30, cloned: false },
    { source: part(media, 'name'), path: '/srv/media/film.mkv', size: 2 ** 30, cloned: false },
    { source: 'data', path: '/data/größe\\011.img', size: 100 * mib, cloned: false },
    { source: 'data', path: '/data/lat\\351in.img', size: 18 * mib, cloned: false },
    { source: 'rootfs', path: '/etc/index.bin', size: least, cloned: false },
  ]);
  t.match(found, { big_files_more: 0, big_files_whole: true, big_file_bytes: least });
  t.equal(part(found, 'longest_pause_ms'), Math.round(200 + ((4096 + 100 + 18 + 16) / 1536) * 1000), 'at 1.5 GiB a second');
});

t.test('the hundred largest are named and the others counted', async (t) => {
  await a.lxc('many', { stopped: true });
  const data = join(a.lxcPath, 'many/volumes/data');
  for (let n = 0; n < 120; n++) await makeFile(join(data, `${n}.img`), least + n);
  const found = await view('lxc', 'many');
  const files = part(found, 'big_files');
  t.equal(Array.isArray(files) && files.length, 100);
  t.match(files, [{ path: '/data/119.img' }]);
  t.match(found, { state: 'stopped', big_files_more: 20, big_files_whole: true });
});

t.test('on a file system that clones, big files make no pause longer', async (t) => {
  await a.lxc('cloned', { stopped: true });
  const data = join(a.lxcPath, 'cloned/volumes/data');
  await ownFileSystem(t, join(a.folder, 'xfs'), data, 2 ** 30, 'xfs');
  await makeFile(join(data, 'disk.img'), 10 * 2 ** 30);
  const found = await view('lxc', 'cloned');
  t.match(found, { big_files: [{ path: '/data/disk.img', cloned: true }], longest_pause_ms: 200 });
});

t.test('Docker: big files of the writable layer and of a volume, by their paths in the container', async (t) => {
  await dockerd.sampleImage('sample:1');
  const Binds = ['mail:/var/mail'];
  const body = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none', Binds } };
  await dockerd.run('mail', body);
  await dockerd.exec('mail', 'truncate -s 40M /var/mail/inbox && truncate -s 20M /own.img && truncate -s 1M /small');
  const found = await view('docker', 'mail');
  t.match(found, { id: 'mail', image: 'sample:1', state: 'running', type: 'docker', big_files_whole: true });
  t.match(part(found, 'big_files'), [
    { source: 'mail', path: '/var/mail/inbox', size: 40 * mib },
    { source: 'rootfs', path: '/own.img', size: 20 * mib },
  ]);
});

t.test('a container that is not there is 404, and a key that the route does not take is 400', async (t) => {
  for (const path of ['lxc/nobody', 'docker/nobody', 'podman/web'])
    t.equal((await a.service.ask('GET', `/container/${path}`)).status, 404, path);
  t.equal((await a.service.ask('GET', '/container/lxc/many?type=lxc')).status, 400);
  t.equal((await a.service.ask('GET', '/container/lxc/many?view=full')).status, 400);
});
