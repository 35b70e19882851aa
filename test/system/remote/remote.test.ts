/** The service with each remote target, as the owner of a NAS uses it: make, check and list the target, back up to it, lose the appliance,
 *  and restore. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { type Appliance, makeAppliance, ownDockerd } from '../../support/appliance.js';
import { destroyLxc, startLxc } from '../../support/lxc.js';
import type { Dockerd } from '../../support/servers/dockerd.js';
import { type RemoteBed, remoteKinds, startRemote } from '../../support/servers/remotes.js';
import { allDifferences, backUp, consented, type LocationWish, makeJob, restore, settle, type Trees, treesOf } from '../fidelity/bench.js';
import { makeDockerSubject } from '../fidelity/docker-subject.js';
import { makeLxcSubject } from '../fidelity/lxc-subject.js';

/** A start of LXC changes the time of the root folder. Docker makes mount points in the root. */
const ofStart = [/^rootfs "": mtime was \d+, is \d+$/];

async function makeTarget({ service }: Appliance, bed: RemoteBed): Promise<number> {
  return Number(part(await service.call('POST', '/target', bed.body), 'id'));
}

/** Checks the answers about the target before it has a record, and after. */
async function lookedAt(t: Test, a: Appliance, bed: RemoteBed, profile: number): Promise<void> {
  t.same(await a.service.call('GET', `/target/${profile}/ping`), { alive: true }, 'it is alive');
  const check = await a.service.call('GET', `/target/${profile}/check`);
  t.match(check, { alive: true, type: bed.kind, writable: true, problems: [] }, `check: ${JSON.stringify(check)}`);
  const shown = await a.service.call('GET', `/target/${profile}`);
  t.equal(part(shown, 'type'), bed.body.type, 'the answer names a type only if the client did');
  const full = await a.service.call('GET', `/target/${profile}?view=full`);
  t.equal(part(full, 'type'), bed.kind, 'in full: what it was found to be');
  if (bed.kind !== 'smb') t.match(part(part(full, 'options'), 'hostKey'), /^SHA256:/, 'and its pinned key');
  t.same(part(part(full, 'options'), 'privateKey'), undefined, 'but no key of ours');
}

async function emptied(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) await rm(join(folder, name), { recursive: true });
}

interface Kept {
  readonly location: LocationWish;
  readonly lxc: Trees;
  readonly docker: Trees;
}

async function backedUp(
  t: Test,
  a: Appliance,
  bed: RemoteBed,
  docker: Dockerd,
): Promise<Kept & { forget(): Promise<void>; now(): Promise<Kept> }> {
  const name = `of-${bed.kind}`;
  const lxc = await makeLxcSubject(a, name);
  const engine = await makeDockerSubject(docker, a.folder, `${name}-docker`);
  await startLxc(a.lxcPath, name);
  const profile = await makeTarget(a, bed);
  await lookedAt(t, a, bed, profile);
  const location: LocationWish = { target: 'remote', profile, path: bed.path };
  const jobs = [
    await makeJob(a.service, { name, container: name, type: 'lxc', features: ['compress', 'pause'], location }),
    await makeJob(a.service, { name: engine.name, container: engine.name, type: 'docker', features: ['compress', 'pause'], location }),
  ];
  await settle();
  for (const job of jobs) await backUp(a.service, job);
  await lxc.change(1);
  await engine.change(1);
  const now = async (): Promise<Kept> => ({
    location,
    lxc: await treesOf(await lxc.places()),
    docker: await treesOf(await engine.places()),
  });
  const kept = await now();
  for (const job of jobs) await backUp(a.service, job);
  return {
    ...kept,
    now,
    async forget() {
      const places = [...Object.values(await lxc.places()), ...Object.values(await engine.places())];
      await destroyLxc(a.lxcPath, name);
      await docker.removeContainer(engine.name);
      for (const path of places.filter((one) => one.startsWith(a.folder)))
        await rm(path.replace(/:file$/, ''), { recursive: true, force: true });
    },
  };
}

const docker = await ownDockerd(t);

for (const kind of remoteKinds) {
  t.test(`${kind}: a blank appliance restores both containers without a difference`, async (t) => {
    const bed = await startRemote(t, kind, { jail: true });
    const a = await makeAppliance(t, { dockerd: docker, flags: ['--undo-hours', '0'] });
    const kept = await backedUp(t, a, bed, docker);
    await kept.forget();
    await a.restart({ stateFolder: join(a.folder, 'another-state') });
    await emptied(join(a.folder, 'state'));
    t.same(await a.service.call('GET', '/target/'), [], 'it knows of no target');
    const location = { ...kept.location, profile: await makeTarget(a, bed) };
    const dirs = await a.service.call('GET', `/target/${location.profile}/dirs${encodeURI(bed.path)}`);
    t.match(dirs, [{ name: `container-backup@of-${kind}`, type: 'b', is_dir: true, write: true }, { type: 'b' }], 'the records are listed');
    const name = `of-${kind}`;
    a.alsoDestroy(name);
    for (const [container, type] of [
      [name, 'lxc'],
      [`${name}-docker`, 'docker'],
    ] as const) {
      await restore(a.service, await consented(a.service, { portfolio: container, container, type, location }));
    }
    const back = await kept.now();
    t.same(allDifferences(kept.lxc, back.lxc, ofStart), [], 'lxc');
    t.same(allDifferences(kept.docker, back.docker), [], 'docker');
  });
}
