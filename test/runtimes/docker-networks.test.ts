import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, readdir } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { Worker } from 'node:worker_threads';
import { test } from 'tap';
import type { Draft, RestorePlan, Runtime } from '../../core/contract/index.js';
import { withEngineLock } from '../../plugins/runtimes/docker/engine/engine-lock.js';
import { fields, items, text, texts } from '../../plugins/runtimes/docker/engine/json.js';
import plugin from '../../plugins/runtimes/docker/index.js';
import { fill, planOf, rejectsWith, type Saved, save, stateOf } from '../conformance/runtime/index.js';
import { startDockerd } from '../support/servers/dockerd.js';

const { signal } = new AbortController();
const docker = await startDockerd();
await docker.sampleImage('sample:1');
const stateFolder = await mkdtemp(`${docker.folder}/state-`);
const open = (): Promise<Runtime> => plugin.open({ log: () => undefined, signal, stateFolder, options: { socket: docker.socket } });
const runtime = await open();

const base = { Image: 'sample:1', Cmd: ['/bin/sleep', '1000'], StopSignal: 'SIGKILL' };
const Subnet = '10.213.78.0/24';
const names = ['one', 'two', 'three', 'four'];

async function makeNetwork(): Promise<void> {
  await docker.client.json('POST', '/networks/create', { body: { Name: 'front', IPAM: { Config: [{ Subnet }] }, Labels: { a: 'b' } } });
}

const networks = async (): Promise<readonly unknown[]> =>
  items(await docker.client.json('GET', '/networks')).flatMap((one) => {
    const { Name, Labels, IPAM } = fields(one);
    return Name === 'front' ? [{ Labels, subnet: fields(items(fields(IPAM).Config)[0]).Subnet }] : [];
  });
const front = [{ Labels: { a: 'b' }, subnet: Subnet }];

const tags = async (): Promise<readonly string[]> =>
  items(await docker.client.json('GET', '/images/json'))
    .flatMap((image) => texts(fields(image).RepoTags))
    .toSorted();

const journals = async () => (await readdir(stateFolder)).filter((name) => name.endsWith('.json'));

/** A plan whose container has an address of its own. */
function planned(saved: Saved, name: string): RestorePlan {
  return { ...planOf(saved, name, 'create'), remap: { network: { front: { address: `10.213.78.${20 + names.indexOf(name)}` } } } };
}

/** A saved container whose network is gone. */
const saved = await (async () => {
  await makeNetwork();
  const EndpointsConfig = { front: { IPAMConfig: { IPv4Address: '10.213.78.9' } } };
  await docker.run('net', { ...base, HostConfig: { NetworkMode: 'front' }, NetworkingConfig: { EndpointsConfig } });
  return async (t: Parameters<typeof save>[0]) => {
    const found = await save(t, runtime, 'net');
    await pipeline((await (await runtime.image('net'))?.open(signal)) ?? [], createWriteStream(`${found.archives}/image`));
    return found;
  };
})();

test('clones at once make the one network that they need, and it stays as long as one of them does', async (t) => {
  const kept = await saved(t);
  await docker.removeContainer('net');
  await docker.client.json('DELETE', '/networks/front');
  const drafts = await Promise.all(names.map(async (name) => (await open()).draft(planned(kept, name), { signal })));
  await Promise.all(drafts.map((draft) => fill(draft, kept)));
  t.strictSame(await networks(), front, 'as it was, and once');
  const [one, two, three, four] = drafts;
  if (!one || !two || !three || !four) throw new Error('there are four');
  await Promise.all([one.discard(), two.discard()]);
  t.strictSame(await networks(), front, 'two need it still');
  t.strictSame((await three.commit()).conflicts, []);
  t.equal(await stateOf(runtime, 'three'), 'running');
  await docker.client.json('POST', '/containers/three/stop?t=0');
  await four.discard();
  t.strictSame(await networks(), front, 'a stopped container is in it');
  await docker.removeContainer('three');
  await docker.client.json('DELETE', '/networks/front');

  const again = await Promise.all(names.map((name) => runtime.draft(planned(kept, name), { signal })));
  await Promise.all(again.map((draft) => fill(draft, kept)));
  t.strictSame(await networks(), front);
  await Promise.all(again.map((draft) => draft.discard()));
  t.strictSame([await networks(), await journals()], [[], []], 'all were discarded, so it is gone');

  await makeNetwork();
  const joined = await runtime.draft(planned(kept, 'one'), { signal });
  await fill(joined, kept);
  await joined.discard();
  t.strictSame(await networks(), front, 'a network that was there is nobody’s to remove');
  await docker.client.json('DELETE', '/networks/front');
});

test('clones at once bring the one image that they need, and it stays as long as one of them does', async (t) => {
  await makeNetwork();
  await docker.run('net', { ...base, HostConfig: { NetworkMode: 'front' } });
  await docker.client.json('POST', '/images/sample:1/tag?repo=second&tag=1');
  const kept = await saved(t);
  await docker.removeContainer('net');
  for (const tag of ['sample:1', 'second:1']) await docker.client.json('DELETE', `/images/${tag}`);
  t.strictSame(await tags(), []);
  const bring = async (draft: Draft) => {
    if (draft.needsImage) await draft.loadImage(createReadStream(`${kept.archives}/image`));
    return draft;
  };
  const clones = () => Promise.all(names.map(async (name) => bring(await runtime.draft(planned(kept, name), { signal }))));
  const [one, two, three, four] = await clones();
  if (!one || !two || !three || !four) throw new Error('there are four');
  await Promise.all([one.discard(), two.discard()]);
  t.strictSame(await tags(), ['sample:1', 'second:1'], 'two need it still');
  await fill(three, kept);
  t.strictSame((await three.commit()).conflicts, []);
  await four.discard();
  t.strictSame(await tags(), ['sample:1', 'second:1'], 'a container was made of it');
  t.equal(text(fields(fields(await docker.client.json('GET', '/containers/three/json')).Config).Image), 'sample:1');
  await docker.removeContainer('three');
  for (const tag of ['sample:1', 'second:1']) await docker.client.json('DELETE', `/images/${tag}`);
  const again = await clones();
  await Promise.all(again.map((draft) => draft.folders()));
  await Promise.all(again.map((draft) => draft.discard()));
  t.strictSame([await tags(), await journals()], [[], []], 'all were discarded, so it is gone');
});

test('the lock of an engine’s networks is given free by a thread that ends, and waiting for it can be stopped', async (t) => {
  const path = new URL('../../plugins/runtimes/docker/engine/engine-lock.js', import.meta.url).href;
  const code = `import(${JSON.stringify(path)}).then(({ withEngineLock }) => withEngineLock(${JSON.stringify(stateFolder)}, 'networks', undefined, () => {
    require('node:worker_threads').parentPort.postMessage('held');
    return new Promise((resolve) => setTimeout(resolve, 100_000));
  }));`;
  const worker = new Worker(code, { eval: true });
  await once(worker, 'message');
  const impatient = new AbortController();
  const waiting = withEngineLock(stateFolder, 'networks', impatient.signal, async () => t.fail('two hold it'));
  await withEngineLock(stateFolder, 'images', signal, async () => t.pass('that of the images is another one'));
  impatient.abort();
  await rejectsWith(t, 'aborted', waiting);
  const patient = withEngineLock(stateFolder, 'networks', signal, async () => 'mine');
  await worker.terminate();
  t.equal(await patient, 'mine');
  const order: number[] = [];
  const work = async (n: number) => {
    order.push(n);
    await new Promise(setImmediate);
    order.push(n);
  };
  await Promise.all([1, 2, 3].map((n) => withEngineLock(stateFolder, 'networks', signal, () => work(n))));
  t.ok(
    [0, 2, 4].every((at) => order[at] === order[at + 1]),
    'one after the other',
  );
});

test('the engine ends', async () => {
  await docker[Symbol.asyncDispose]();
});
