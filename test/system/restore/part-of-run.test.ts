/** A restore of some sources of a run restores, checks and reads only these. */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { startLxc } from '../../support/lxc.js';
import { list, restored } from '../bed/request-bodies.js';
import { backUp, makeJob } from '../fidelity/bench.js';

const name = 'parts';
const a = await makeAppliance(t, { flags: ['--undo-hours', '0'] });
const own = join(a.lxcPath, name);
const [root, data, more] = [join(own, 'rootfs'), join(own, 'volumes/data'), join(own, 'volumes/more')];
await a.lxc(name, { stopped: true, lines: [`lxc.mount.entry = ${more} more none bind,create=dir 0 0`] });
for (const folder of [data, more]) await mkdir(folder, { recursive: true });
for (const folder of [root, data, more]) await writeFile(join(folder, 'mark'), 'backed up');
await startLxc(a.lxcPath, name);
const job = await makeJob(a.service, { name, container: name, type: 'lxc', features: [] });
const run = await backUp(a.service, job);
const manifest = await a.service.call('GET', `/backup/${job}/runs/${run}`);
const archives = list(part(manifest, 'archives'));
const record = join(a.share, 'backups', `container-backup@${name}`);
const src = { target: 'local', path: '/test/backups', portfolio: name };
const body = (sources: readonly string[], container_id = name) => ({ job_name: 'part', container_id, type: 'lxc', src, sources });
const bytesOf = (source: string): number =>
  archives.filter((one) => part(one, 'source') === source).reduce<number>((sum, one) => sum + Number(part(one, 'bytes')), 0);

t.test('a plan counts the bytes of the chosen sources only', async (t) => {
  for (const sources of [['data'], ['data', 'more']]) {
    const size = sources.map(bytesOf).reduce((sum, one) => sum + one, 0);
    t.ok(size > 0);
    t.match(await a.service.call('POST', '/restore/plan', body(sources)), { action: 'replace', size, space: size, run, warnings: [] });
  }
});

t.test('an unknown source is refused, and the error lists the known ones', async (t) => {
  const answer = await a.service.ask('POST', '/restore/plan', body(['data', 'dat']));
  t.match([answer.status, answer.text], [400, new RegExp(`sources: ${run} holds no dat; it holds .*data`)]);
  const state = await restored(a.service, body(['__proto__']));
  t.match(state, { result: -1, error: { code: 'invalid', message: /holds no __proto__/ } });
});

t.test('a restore of one volume changes neither the root nor the other volumes', async (t) => {
  for (const folder of [root, data, more]) await writeFile(join(folder, 'mark'), 'changed');
  const others = archives.filter((one) => part(one, 'source') !== 'data').map((one) => String(part(one, 'path')));
  for (const path of others) await rm(join(record, path)); // a restore that read them would fail
  const before = { root: await snapshotOf(root), more: await snapshotOf(more), config: await readFile(join(own, 'config'), 'utf8') };
  const state = await restored(a.service, body(['data']));
  t.match(state, { result: 0, run }, JSON.stringify(state.error ?? ''));
  t.equal(await readFile(join(data, 'mark'), 'utf8'), 'backed up');
  const inRoot = differences(before.root, await snapshotOf(root));
  t.same(
    inRoot.filter((line) => !line.startsWith('"": mtime')),
    [],
    'the root, but for the time that LXC sets as it mounts the rest into it',
  );
  t.same(differences(before.more, await snapshotOf(more)), [], 'the other volume');
  t.equal(await readFile(join(own, 'config'), 'utf8'), before.config);
  t.same((await readdir(own)).sort(), ['config', 'rootfs', 'volumes'], 'nothing is left beside them');
  t.match(
    await restored(a.service, body(['data', 'rootfs'])),
    { result: -1, error: { code: 'damaged' } },
    'the root is looked for when it is asked for',
  );
});
