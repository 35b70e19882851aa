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
import type { Dockerd } from '../support/servers/dockerd.js';

const { signal } = new AbortController();

async function opened(docker: Dockerd): Promise<Runtime> {
  const stateFolder = await mkdtemp(join(docker.folder, 'state-'));
  return plugin.open({ log: () => undefined, signal, stateFolder, options: { socket: docker.socket } });
}

t.test('a backup of a vfs engine is restored on an overlay2 engine', async (t) => {
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
  const saved = await save(t, source, 'whole');
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
  const stopped = await save(t, source, 'whole');
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

t.test('a container of a vfs engine is restored in place', async (t) => {
  const docker = await ownDockerd(t, ['--storage-driver=vfs']);
  await docker.sampleImage('sample:1');
  const HostConfig = { NetworkMode: 'none', Mounts: [{ Type: 'volume', Source: 'vol', Target: '/data/deep' }] };
  await docker.run('own', { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL', HostConfig });
  await docker.exec('own', 'echo v > /data/deep/file; echo a > /made; rm -r /seed; rm /bin/true');
  await using runtime = await opened(docker);
  const saved = await save(t, runtime, 'own');
  await docker.exec('own', 'rm /made /data/deep/file; echo later > /later');
  const draft = await runtime.draft(planOf(saved, 'own', 'replace'), { signal });
  await fill(draft, saved);
  await draft.commit();
  t.equal(await stateOf(runtime, 'own'), 'running');
  await docker.exec('own', 'read a < /made && [ $a = a ] && read v < /data/deep/file && [ $v = v ]');
  for (const gone of ['/later', '/seed', '/bin/true']) await docker.exec('own', `[ ! -e ${gone} ]`);
  t.pass('as it was saved');

  const from = await ownDockerd(t);
  await from.sampleImage('sample:1');
  await from.run('layered', { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none' } });
  await using layered = await opened(from);
  const changes = await save(t, layered, 'layered');
  const other = await runtime.draft(planOf(changes, 'layered', 'create'), { signal });
  const image = await layered.image('layered');
  if (other.needsImage && image) await other.loadImage(await image.open(signal));
  await t.rejects(fill(other, changes), { code: 'unsupported' }, 'changes to an image cannot become a whole root, and that is told');
  await other.discard();
  t.equal(await stateOf(runtime, 'layered'), undefined);
});
