import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { apiErrorOf } from '../../../core/api/errors.js';
import { PluginError } from '../../../core/contract/index.js';
import { type Body, part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { changeManifestFile } from '../../support/manifest-file.js';
import { backUp, makeJob, type RestoreWish, restorePlan } from '../fidelity/bench.js';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');
const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '0'] });
const [ownState, otherState] = [a.stateFolder, join(a.folder, 'other-state')];
const marker = join(a.folder, 'hook-ran');
const hook = join(a.folder, 'hook');
const conf = join(a.folder, 'conf');
await writeFile(hook, `#!/bin/sh\n: > ${marker}\n`, { mode: 0o755 });
await mkdir(conf);
await writeFile(join(conf, 'file'), 'conf');

await a.lxc('box', { lines: [`lxc.hook.pre-start = ${hook}`] });
await a.lxc('plain');
for (const name of ['copy', 'mine', 'free']) a.alsoDestroy(name);
const run = { Image: 'sample:1', Cmd: ['/bin/sleep', '100000'] };
await docker.run('web', { ...run, HostConfig: { Binds: [`${conf}:/conf`], PidMode: 'host' } });
await docker.run('calm', run);

const box = { portfolio: 'box', container: 'copy', type: 'lxc' } as const;
const web = { portfolio: 'web', container: 'copy', type: 'docker' } as const;
const rights = {
  lxc: [{ code: 'hook', what: `lxc.hook.pre-start = ${hook}` }],
  docker: [
    { code: 'host_folder', what: `${conf} at /conf` },
    { code: 'host_namespace', what: 'PidMode host' },
  ],
} as const;

const runs = new Map<string, string>();
for (const [name, type] of [
  ['box', 'lxc'],
  ['plain', 'lxc'],
  ['web', 'docker'],
  ['calm', 'docker'],
] as const) {
  runs.set(name, await backUp(a.service, await makeJob(a.service, { name, container: name, type })));
}
await rm(marker);

const ran = (): Promise<boolean> =>
  stat(marker).then(
    () => true,
    () => false,
  );

async function restored({ portfolio, container, type }: RestoreWish, more: Body = {}): Promise<Body> {
  const src = { target: 'local', path: '/test/backups', portfolio };
  return a.service.settled('restore', await a.service.create('restore', { job_name: 'r', container_id: container, type, src, ...more }));
}

/** Everything in both engines, hidden files included. */
async function everything(): Promise<object> {
  const lists = ['/containers/json?all=1', '/volumes', '/networks', '/images/json?all=1'].map(async (path) => {
    const text = await docker.client.text('GET', path);
    return [...text.matchAll(/"(Id|Name|State)":"[^"]*"/g)].map(([found]) => found).sort();
  });
  return { lxc: (await readdir(a.lxcPath)).sort(), host: (await readdir(a.folder)).sort(), docker: await Promise.all(lists) };
}

async function consentOf(t: Test, wish: RestoreWish): Promise<string> {
  const plan = await restorePlan(a.service, wish);
  t.match(plan, { grants: rights[wish.type], consent: /^[0-9a-f]{64}$/ });
  return String(part(plan, 'consent'));
}

t.test('a run of this appliance is restored without consent, whatever rights its container has', async (t) => {
  for (const [wish, name] of [
    [box, 'box'],
    [web, 'web'],
  ] as const) {
    const plan = await restorePlan(a.service, wish);
    t.match(plan, { grants: rights[wish.type] }, 'its rights are listed');
    t.equal(part(plan, 'consent'), undefined, 'and nothing is asked');
    t.match(await restored({ ...wish, container: 'mine' }), { result: 0 }, 'as a clone');
    t.match(await restored({ ...wish, container: name }), { result: 0 }, 'and in its place');
  }
  t.ok(await ran(), 'its hook ran');
  await rm(marker);
});

t.test('a manifest with a wrong or missing seal is foreign', async (t) => {
  const file = join(a.share, 'backups/container-backup@box', runs.get('box') ?? '', 'manifest.json');
  const text = await readFile(file, 'utf8');
  const changes: readonly ((manifest: Body) => Body)[] = [
    (manifest) => ({ ...manifest, ended: '2026-01-01T00:00:00.000Z' }),
    ({ seal: _seal, ...manifest }) => manifest,
    (manifest) => ({ ...manifest, seal: { appliance: part(manifest.seal, 'appliance'), mac: '0'.repeat(64) } }),
    (manifest) => ({ ...manifest, format: 1 }),
    (manifest) => ({ ...manifest, format: 1, seal: 'none' }),
  ];
  for (const change of changes) {
    await writeFile(file, text);
    await changeManifestFile(file, change);
    await consentOf(t, box);
    t.match(await restored(box), { result: -1, error: { code: 'needs_consent' } });
  }
  t.notOk(await ran());
  await writeFile(file, text);
  t.equal(part(await restorePlan(a.service, box), 'consent'), undefined, 'as it was written it is our own');
});

t.test('another appliance refuses a container with rights over the host until the request has the consent', async (t) => {
  await a.restart({ stateFolder: otherState });
  const before = await everything();
  const consents = { lxc: await consentOf(t, box), docker: await consentOf(t, web) };
  for (const wish of [box, web]) {
    const [{ what }] = rights[wish.type];
    const error = { code: 'needs_consent', message: new RegExp(`${what}.*POST /restore/plan`) };
    t.match(await restored(wish), { result: -1, error }, `${wish.type}: no consent`);
    const others = [consents[wish.type === 'lxc' ? 'docker' : 'lxc'], '0'.repeat(64)];
    for (const consent of others) t.match(await restored(wish, { consent }), { result: -1, error }, `${wish.type}: to other rights`);
  }
  t.notOk(await ran(), 'no hook ran');
  t.same(await everything(), before, 'and nothing was made');
});

t.test('the consent of the plan restores such a container as it was', async (t) => {
  for (const wish of [box, web]) {
    const state = await restored(wish, { consent: await consentOf(t, wish) });
    t.match(state, { result: 0 }, JSON.stringify(state));
  }
  t.ok(await ran(), 'its hook ran');
  t.match(await docker.client.json('GET', '/containers/copy/json'), { HostConfig: { PidMode: 'host' }, State: { Running: true } });
});

t.test('a container without rights over the host needs no consent on any appliance', async (t) => {
  for (const [portfolio, type] of [
    ['plain', 'lxc'],
    ['calm', 'docker'],
  ] as const) {
    const wish = { portfolio, container: 'free', type };
    const plan = await restorePlan(a.service, wish);
    t.match(plan, { grants: [] });
    t.equal(part(plan, 'consent'), undefined);
    t.match(await restored(wish), { result: 0 });
  }
});

t.test('the appliance that made the run still needs no consent afterwards', async (t) => {
  await a.restart({ stateFolder: ownState });
  t.equal(part(await restorePlan(a.service, { ...box, container: 'mine' }), 'consent'), undefined);
  t.match(apiErrorOf(new PluginError('needs_consent', 'x')), { status: 409, retryable: false });
});
