/** The service and all its children stay within 256 MiB, however many bytes they move. `make campaign-large` moves 20 GB each way. */
import { readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { pointsOf } from '../../support/depth.js';
import { startLxc } from '../../support/lxc.js';
import { backUp, bytesOf, installGenerated, measured, newJob, restoreGenerated } from './bench.js';
import { isWhole, reflinkedFolder } from './reflinked.js';

const { mebibytes } = pointsOf('large');
const plain = Math.min(4000, mebibytes); // MiB that the disk really stores, once
/** Makes a container whose volume holds files of so many MiB. */
async function makeLargeContainer(t: Test, a: Appliance, name: string, size: number): Promise<void> {
  const data = await reflinkedFolder(t, a.folder, size);
  const files = (await readdir(data)).map((file) => join(data, file));
  for (const file of files) if (!(await isWhole(file))) throw new Error(`${file} has holes`);
  t.ok(files.length * 256 >= size, `${files.length} files of 256 MiB without holes`);
  await a.lxc(name, { stopped: true, lines: [`lxc.mount.entry = ${data} srv none bind,create=dir 0 0`] });
  await startLxc(a.lxcPath, name);
}

t.test(`a generated image of ${mebibytes} MiB is backed up compressed and restored within the limit`, async (t) => {
  const a = await makeAppliance(t);
  await installGenerated(a);
  const name = `generated-${mebibytes}`;
  const id = await newJob(a, 'generated', name, ['compress']);
  const { run, bytes } = await measured(t, a, 'backup', () => backUp(a, id));
  t.equal(await bytesOf(a, id, run, '@image'), mebibytes * 2 ** 20, `all of it was read, ${bytes} bytes were stored`);
  await measured(t, a, 'restore', () => restoreGenerated(a, name));
  t.pass('and every byte came back, as the plugin checks');
});

t.test(`${mebibytes} MiB in files are backed up through tar and zstd within the limit`, async (t) => {
  const a = await makeAppliance(t);
  await makeLargeContainer(t, a, 'large', mebibytes);
  const id = await newJob(a, 'lxc', 'large', ['compress', 'pause']);
  const { run, bytes } = await measured(t, a, 'backup', () => backUp(a, id));
  const read = await bytesOf(a, id, run, 'srv');
  t.ok(read >= mebibytes * 2 ** 20, `${read} bytes were read, ${bytes} were stored`);
});

t.test(`${plain} MiB are backed up uncompressed and restored within the limit`, async (t) => {
  const a = await makeAppliance(t);
  const { bavail, bsize } = await statfs(a.share);
  if (bavail * bsize < plain * 2 ** 20 * 3) throw new Error(`${3 * plain} MiB must be free on the file system of ${a.share}`);
  await installGenerated(a);
  const name = `generated-${plain}`;
  const id = await newJob(a, 'generated', name, []);
  const { bytes } = await measured(t, a, 'backup', () => backUp(a, id));
  t.ok(Number(bytes) >= plain * 2 ** 20, `${bytes} bytes were stored`);
  await measured(t, a, 'restore', () => restoreGenerated(a, name));
  await rm(join(a.share, 'large'), { recursive: true });
});

t.test('two jobs at once stay within the limit', async (t) => {
  const a = await makeAppliance(t);
  await installGenerated(a);
  await makeLargeContainer(t, a, 'large', plain);
  const jobs = [await newJob(a, 'generated', `generated-${plain}`, ['compress']), await newJob(a, 'lxc', 'large', ['compress'])];
  await measured(t, a, 'two backups', () => Promise.all(jobs.map((id) => backUp(a, id))));
  const again = await newJob(a, 'lxc', 'large', ['compress'], { name: 'again' });
  await measured(t, a, 'a restore and a backup', () => Promise.all([restoreGenerated(a, `generated-${plain}`), backUp(a, again)]));
});
