/** The service with all its children stays within 256 MiB, however much it moves. TEST_LARGE=1 moves 20 GB each way. */
import { copyFile, mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { type Appliance, makeAppliance } from '../support/appliance.js';
import { type Body, isBody, notSoon, part } from '../support/demo-client.js';
import { startLxc } from '../support/lxc.js';
import { MemoryWatch } from './memory-watch.js';
import { isWhole, reflinkedFolder } from './reflinked.js';

const limit = 256; // MiB
const gigabytes = process.env.TEST_LARGE === '1' ? 20 : 4;
const mebibytes = gigabytes * 1000; // more than as many GB
const plain = 4000; // MiB that are really stored, once
/** A second half that needs more than this of the first one would go on growing. */
const flat = 1.15;

/** A test runner's loaders in the service would be counted, too. */
const appliance = (t: Test): Promise<Appliance> => makeAppliance(t, { environment: { NODE_OPTIONS: '' } });

/** Puts the plugin where a user would, and has the service find it. */
async function installGenerated(a: Appliance): Promise<void> {
  const folder = join(a.stateFolder, 'plugins/generated');
  await mkdir(folder, { recursive: true });
  const about = { id: 'generated', kind: 'runtime', contract: 1, version: '1.0.0', main: 'index.js', title: 'Generated', capabilities: [] };
  const code = `
    import { PluginError } from 'container-backup/contract';
    import { generatedPlugin } from './generated-runtime.js';
    export default generatedPlugin(PluginError);
  `;
  await writeFile(join(folder, 'plugin.json'), JSON.stringify(about));
  await writeFile(join(folder, 'options.schema.json'), JSON.stringify({ type: 'object' }));
  await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  await writeFile(join(folder, 'index.js'), code);
  await copyFile(fileURLToPath(new URL('./generated-runtime.js', import.meta.url)), join(folder, 'generated-runtime.js'));
  await a.restart();
}

function newJob(a: Appliance, type: string, container: string, features: readonly string[], name = container): Promise<number> {
  return a.service.create('backup', {
    job_name: name,
    container_id: container,
    type,
    dest: { target: 'local', path: '/test/large' },
    at: notSoon(),
    features,
  });
}

/** Runs something and checks what the service needed meanwhile. */
async function measured<T>(t: Test, a: Appliance, what: string, action: () => Promise<T>): Promise<T> {
  using watch = new MemoryWatch(a.service.pid);
  const done = await action();
  const { peak, firstHalf, secondHalf, seconds, samples, parts } = watch.figures();
  const made = Object.entries(parts).map(([name, size]) => `${name} ${size}`);
  t.comment(`${what}: peak ${peak} MiB (${made.join(', ')}), halves ${firstHalf} and ${secondHalf}, ${seconds} s, ${samples} samples`);
  t.ok(samples > 10, `${what}: looked at often enough`);
  t.ok(peak <= limit, `${what}: ${peak} MiB at most`);
  t.ok(secondHalf <= flat * firstHalf, `${what}: flat, ${firstHalf} and then ${secondHalf}`);
  return done;
}

const limitMs = 900_000;

async function backUp(a: Appliance, id: number): Promise<Body> {
  await a.service.call('PUT', `/backup/${id}/run`);
  return a.service.ended('backup', id, limitMs);
}

/** Bytes before compression of a source's archives in a run. */
async function bytesOf(a: Appliance, id: number, run: unknown, source: string): Promise<number> {
  const archives = part(await a.service.call('GET', `/backup/${id}/runs/${run}`), 'archives');
  const all = Array.isArray(archives) ? archives.filter(isBody) : [];
  return all.filter((archive) => archive.source === source).reduce((sum, { bytes }) => sum + Number(bytes), 0);
}

async function restoreGenerated(a: Appliance, container: string): Promise<Body> {
  const src = { target: 'local', path: '/test/large', portfolio: container };
  const id = await a.service.create('restore', { job_name: 'back', container_id: 'restored', type: 'generated', src });
  return a.service.ended('restore', id, limitMs);
}

/** A container whose volume holds so many MiB in files. */
async function makeLargeContainer(t: Test, a: Appliance, name: string, size: number): Promise<void> {
  const data = await reflinkedFolder(t, a.folder, size);
  const files = (await readdir(data)).map((file) => join(data, file));
  for (const file of files) if (!(await isWhole(file))) throw new Error(`${file} has holes`);
  t.ok(files.length * 256 >= size, `${files.length} files of 256 MiB without holes`);
  await a.lxc(name, { stopped: true, lines: [`lxc.mount.entry = ${data} srv none bind,create=dir 0 0`] });
  await startLxc(a.lxcPath, name);
}

t.test(`an image of ${gigabytes} GB that is made as it is read, compressed`, async (t) => {
  const a = await appliance(t);
  await installGenerated(a);
  const name = `generated-${mebibytes}`;
  const id = await newJob(a, 'generated', name, ['compress']);
  const { run, bytes } = await measured(t, a, 'backup', () => backUp(a, id));
  t.equal(await bytesOf(a, id, run, '@image'), mebibytes * 2 ** 20, `all of it was read, ${bytes} bytes were stored`);
  await measured(t, a, 'restore', () => restoreGenerated(a, name));
  t.pass('and every byte came back, as the plugin checks');
});

t.test(`${gigabytes} GB in files, through tar, compressed`, async (t) => {
  const a = await appliance(t);
  await makeLargeContainer(t, a, 'large', mebibytes);
  const id = await newJob(a, 'lxc', 'large', ['compress', 'pause']);
  const { run, bytes } = await measured(t, a, 'backup', () => backUp(a, id));
  const read = await bytesOf(a, id, run, 'srv');
  t.ok(read >= mebibytes * 2 ** 20, `${read} bytes were read, ${bytes} were stored`);
});

t.test('4 GB that are stored as they are', async (t) => {
  const a = await appliance(t);
  const { bavail, bsize } = await statfs(a.share);
  if (bavail * bsize < plain * 2 ** 20 * 3) throw new Error(`12 GB must be free on the file system of ${a.share}`);
  await installGenerated(a);
  const name = `generated-${plain}`;
  const id = await newJob(a, 'generated', name, []);
  const { bytes } = await measured(t, a, 'backup', () => backUp(a, id));
  t.ok(Number(bytes) >= plain * 2 ** 20, `${bytes} bytes were stored`);
  await measured(t, a, 'restore', () => restoreGenerated(a, name));
  await rm(join(a.share, 'large'), { recursive: true });
});

t.test('two jobs at a time', async (t) => {
  const a = await appliance(t);
  await installGenerated(a);
  await makeLargeContainer(t, a, 'large', 4000);
  const jobs = [await newJob(a, 'generated', 'generated-4000', ['compress']), await newJob(a, 'lxc', 'large', ['compress'])];
  await measured(t, a, 'two backups', () => Promise.all(jobs.map((id) => backUp(a, id))));
  const again = await newJob(a, 'lxc', 'large', ['compress'], 'again');
  await measured(t, a, 'a restore and a backup', () => Promise.all([restoreGenerated(a, 'generated-4000'), backUp(a, again)]));
});
