/** Folders above what is restored: one that is missing is made as it was at the backup, and one that is there keeps its time when
 *  nothing comes of the restore. */
import { chmod, chown, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { rejectsWith, save } from '../conformance/runtime/index.js';
import { folderAt, makeEngines, restore } from './engines-bed.js';

const engines = await makeEngines(t);
const { top, lxcPath, dockerd } = engines;

const rightsOf = async (path: string): Promise<string> => {
  const { mode, uid, gid } = await stat(path);
  return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
};

async function giveRights(path: string): Promise<void> {
  await chown(path, 1234, 5678);
  await chmod(path, 0o2710);
}
const given = '2710 1234:5678';

t.test('docker: a missing folder above a clone’s copy gets mode and owner of the original', async (t) => {
  const { runtime, make } = engines.docker;
  const data = await folderAt(top, 'data');
  const inner = await folderAt(data, 'sub/inner');
  await giveRights(join(data, 'sub'));
  await make('nested', { '/app': data, '/in': inner });
  const saved = await save(t, runtime, 'nested');
  const app = saved.description.volume.find(({ path }) => path === data)?.name ?? '';
  await restore(runtime, saved, {
    as: 'copied',
    change: (folders) => rm(join(folders.get(app) ?? '', 'sub'), { recursive: true }), // a job leaves it out
  });
  t.same(await readdir(`${data}.copied/sub/inner`), ['file']);
  t.equal(await rightsOf(`${data}.copied/sub`), given);
});

t.test('docker: missing folders above a volume’s bound folder get their old mode and owner', async (t) => {
  const { runtime, make, lose } = engines.docker;
  const device = await folderAt(top, 'led/to/goal');
  await giveRights(join(top, 'led/to'));
  await dockerd.client.json('POST', '/volumes/create', { body: { Name: 'led', DriverOpts: { type: 'none', o: 'bind', device } } });
  await make('leads', { '/led': 'led' });
  const saved = await save(t, runtime, 'leads');
  await lose('leads');
  await dockerd.client.json('DELETE', '/volumes/led?force=1');
  await rm(join(top, 'led'), { recursive: true });
  await restore(runtime, saved);
  t.equal(await rightsOf(join(top, 'led/to')), given);
});

t.test('lxc: a folder above a volume in the container’s own folder gets its old mode and owner', async (t) => {
  const { runtime, make, lose } = engines.lxc;
  await make('original', {});
  await giveRights(join(lxcPath, 'original/volumes'));
  const saved = await save(t, runtime, 'original');
  await restore(runtime, saved, { as: 'clone' });
  t.equal(await rightsOf(join(lxcPath, 'clone/volumes')), given, 'in a clone');
  await lose('original');
  await restore(runtime, saved);
  t.equal(await rightsOf(join(lxcPath, 'original/volumes')), given, 'of one that was lost');
  await rm(join(lxcPath, 'original/volumes'), { recursive: true });
  await restore(runtime, saved, { action: 'replace' });
  t.equal(await rightsOf(join(lxcPath, 'original/volumes')), given, 'of one that lost its volumes');
});

for (const kind of ['docker', 'lxc'] as const) {
  const { runtime, make } = engines[kind];

  t.test(`${kind}: the folders above get their times back after a failed restore, and after an undo`, async (t) => {
    const name = `times-${kind}`;
    const files = await folderAt(top, kind, 'files');
    const lost = await folderAt(top, kind, 'around/gone/lost');
    const last = join(await folderAt(top, kind, 'the/folder/with/the/longest/path'), 'last.conf');
    for (const file of [join(files, 'app.conf'), last]) await writeFile(file, 'of the run');
    await make(name, { '/app.conf': join(files, 'app.conf'), '/lost': lost, '/last.conf': last });
    const saved = await save(t, runtime, name);
    await rm(join(top, kind, 'around/gone'), { recursive: true });
    const folders = [files, join(top, kind, 'around')];
    const times = () => Promise.all(folders.map(async (path) => (await stat(path)).mtimeMs));
    const long = 1_000_000_000_000;
    for (const path of folders) await utimes(path, new Date(long), new Date(long));

    const source = saved.description.volume.find(({ path }) => path === last)?.name ?? '';
    const change = (all: ReadonlyMap<string, string>) => writeFile(join(all.get(source) ?? '', 'second'), 'one too many');
    await rejectsWith(t, 'damaged', restore(runtime, saved, { action: 'replace', change }));
    t.same(await times(), [long, long], 'it failed, when all but the last file had been exchanged');
    t.same(await readdir(join(top, kind, 'around')), [], 'and left nothing');

    await runtime.undo(await restore(runtime, saved, { action: 'replace' }));
    t.same(await times(), [long, long], 'it was undone');

    const id = await restore(runtime, saved, { action: 'replace' });
    await writeFile(join(files, 'other'), 'by somebody else');
    const changed = await times();
    await runtime.undo(id);
    t.same(await times(), [changed[0], long], 'but for one that somebody else has changed since');
  });
}
