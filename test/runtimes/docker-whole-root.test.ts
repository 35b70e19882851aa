/** An engine that names no writable layer: the whole root is backed up, and comes back without what had been deleted. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import t from 'tap';
import type { Runtime } from '../../core/contract/index.js';
import plugin from '../../plugins/runtimes/docker/index.js';
import { fill, planOf, save, stateOf } from '../conformance/runtime/index.js';
import { ownDockerd } from '../support/appliance.js';
import type { Dockerd } from '../support/dockerd.js';

const { signal } = new AbortController();

async function opened(docker: Dockerd): Promise<Runtime> {
  const stateFolder = await mkdtemp(join(docker.folder, 'state-'));
  return plugin.open({ log: () => undefined, signal, stateFolder, options: { socket: docker.socket } });
}

t.test('from a vfs engine to an overlay2 engine', async (t) => {
  const from = await ownDockerd(t, ['--storage-driver=vfs']);
  const to = await ownDockerd(t);
  const isIn = (name: string) => (path: string) =>
    to.exec(name, `test -e ${path}`).then(
      () => true,
      () => false,
    );
  await from.sampleImage('sample:1');
  const HostConfig = { NetworkMode: 'none', Mounts: [{ Type: 'volume', Source: 'vol', Target: '/data/deep' }] };
  await from.run('whole', { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL', HostConfig });
  await from.exec('whole', 'echo v > /data/deep/file; mkdir -p /made/here; rm -r /seed; rm /bin/true; chmod 4711 /made');
  await using source = await opened(from);
  const saved = await save(source, 'whole');
  const [root] = saved.sources;
  t.match(root?.path, /^\/proc\/\d+\/root\/$/, 'the whole root is read');

  await using target = await opened(to);
  const draft = await target.draft(planOf(saved, 'whole', 'create'), { signal });
  t.ok(draft.needsImage);
  const image = await source.image('whole');
  const file = join(to.folder, 'image.tar');
  await pipeline((await image?.open(signal)) ?? [], createWriteStream(file));
  await draft.loadImage(createReadStream(file));
  await fill(draft, saved);
  t.strictSame((await draft.commit()).conflicts, []);
  t.equal(await stateOf(target, 'whole'), 'running');
  const found = await Promise.all(['/made/here', '/data/deep/file', '/bin/sh', '/proc/1', '/seed', '/bin/true'].map(isIn('whole')));
  t.strictSame(found, [true, true, true, true, false, false], 'what was made is there, what was deleted is not');

  await from.client.json('POST', '/containers/whole/stop');
  const stopped = await save(source, 'whole');
  t.match(stopped.sources[0]?.path, /\/vfs\/dir\/[0-9a-f]{64}$/, 'a stopped one is read from the folder of the engine');
  const twin = await target.draft(planOf(stopped, 'twin', 'create'), { signal });
  await fill(twin, stopped);
  await twin.commit();
  t.equal(await stateOf(target, 'twin'), 'stopped');
  await to.client.json('POST', '/containers/twin/start');
  t.strictSame(await Promise.all(['/made/here', '/data/deep/file', '/bin/sh', '/seed', '/bin/true'].map(isIn('twin'))), [
    true,
    true,
    true,
    false,
    false,
  ]);
});
