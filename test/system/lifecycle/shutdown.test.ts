/** SIGTERM to the service while jobs run, stops of a run by a user, and the limit of concurrent runs. */
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Body, isBody, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance, ownDockerd } from '../../support/appliance.js';
import type { DemoService } from '../../support/demo-client.js';
import { pointsOf } from '../../support/depth.js';
import { runToEnd } from '../bed/service-process.js';
import { backupBody, restoreBody, stateOf } from '../crash/bench.js';
import { type BusyContainer, makeBusyDocker, makeBusyLxc, type State, treeDifferences } from '../crash/busy-container.js';
import { seededRandom } from '../crash/random.js';

const { points, size } = pointsOf('shutdown');
const { seed } = seededRandom();
t.comment(`TEST_SEED=${seed}`);
t.jobs = 2; // each has a service and engines of its own

/** Everything on the share, folders and hidden files included. */
const everything = async (a: Appliance): Promise<string[]> => (await readdir(a.share, { recursive: true })).sort();

const newJob = async (a: Appliance, container: BusyContainer): Promise<number> => a.service.create('backup', backupBody(container, 0));

/** Waits until the container is in the state. @throws Error after 20 s */
async function reached({ engine, name }: BusyContainer, wanted: State): Promise<void> {
  for (const end = Date.now() + 20_000; (await engine.state(name)) !== wanted; await sleep(1)) {
    if (Date.now() > end) throw new Error(`${name} was not ${wanted} within 20 s`);
  }
}

/** Ends the service with SIGTERM, as an init system does. @returns its exit code and the ms until the end */
async function terminate(service: DemoService): Promise<{ readonly code: unknown; readonly ms: number }> {
  const began = performance.now();
  const gone = once(service.child, 'exit');
  service.child.kill('SIGTERM');
  const [code] = await gone;
  return { code, ms: Math.round(performance.now() - began) };
}

/** Checks the result of a stop by the user. @returns ms until the answer */
async function stopped(t: Test, a: Appliance, kind: 'backup' | 'restore', id: number, what: string): Promise<Body> {
  const began = performance.now();
  const answer = await a.service.call('PUT', `/${kind}/${id}/stop`);
  const ms = Math.round(performance.now() - began);
  t.ok(ms < 5000, `${what}: ended after ${ms} ms`);
  t.notMatch(part(answer, 'state'), { code: /running|waiting/ }, `${what}: and the answer says so`);
  return stateOf(a.service, kind, id);
}

t.test('SIGTERM ends the service within 10 s with code 0, its containers run, and nothing of the runs is left', async (t) => {
  const random = seededRandom(seed);
  const dockerd = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd, flags: ['--new-base-ratio', '0.05', '--big-file-mib', '4'] });
  const first = await makeBusyLxc(a, 'busy-lxc', size);
  const containers = [first, await makeBusyDocker(a, dockerd, 'busy-docker', size)];
  const jobs = await Promise.all(containers.map((container) => newJob(a, container)));
  let usual = 0;
  for (const id of jobs) usual = Number((await a.service.backUp(id)).duration);
  for (const where of [...random.spread(points), 'paused'] as const) {
    const before = await everything(a);
    await Promise.all(containers.map((container) => container.change(before.length)));
    for (const id of jobs) await a.service.call('PUT', `/backup/${id}/run`);
    const poll = a.service.ask('GET', '/backup/progress?duration=60').catch(() => undefined); // an open poll must not delay the end
    await (where === 'paused' ? reached(first, 'frozen') : sleep(where * usual));
    const { code, ms } = await terminate(a.service);
    t.equal(code, 0, `exit code 0, ${where === 'paused' ? 'in the pause' : `${Math.round(where * usual)} ms into the runs`}`);
    t.ok(ms < 10_000, `after ${ms} ms`);
    await poll;
    for (const { engine, name } of containers) t.equal(await engine.state(name), 'running', `${name} runs`);
    const left = (await everything(a)).filter((path) => !before.includes(path));
    await a.restart();
    const states = await Promise.all(jobs.map((id) => stateOf(a.service, 'backup', id)));
    for (const state of states) if (state.result !== 0) t.match(state, { code: 'scheduled', result: -1, error: { code: 'interrupted' } });
    const ended = states.filter(({ result }) => result === 0).map(({ run }) => String(run));
    t.same(
      left.filter((path) => !ended.some((run) => path.includes(run))),
      [],
      'nothing of a run that had not ended is on the target',
    );
    for (const id of jobs) await a.service.backUp(id);
  }
});

t.test('a stopped backup leaves nothing, at any point of the run', async (t) => {
  const random = seededRandom(seed);
  const dockerd = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd, flags: ['--new-base-ratio', '0.05', '--big-file-mib', '4'] });
  for (const container of [await makeBusyLxc(a, 'busy-lxc', size), await makeBusyDocker(a, dockerd, 'busy-docker', size)]) {
    const { engine, name } = container;
    const nothing = await everything(a);
    const id = await newJob(a, container);
    await a.service.call('PUT', `/backup/${id}/run`);
    await sleep(100); // stop it before it stores anything: later its empty folders would stay
    t.match(await stopped(t, a, 'backup', id, `${name}, the first run of all`), { result: -2 });
    t.same(await everything(a), nothing, 'not even a folder');
    let usual = Number((await a.service.backUp(id)).duration);
    for (const where of ['at once', ...random.spread(points), 'paused'] as const) {
      const before = await everything(a);
      await container.change(before.length);
      await a.service.call('PUT', `/backup/${id}/run`);
      if (where === 'paused') await reached(container, 'frozen');
      else if (where !== 'at once') await sleep(where * usual);
      const what = `${name}, ${typeof where === 'number' ? `after ${Math.round(where * usual)} ms` : where}`;
      const state = await stopped(t, a, 'backup', id, what);
      t.equal(await engine.state(name), 'running', `${what}: it runs`);
      if (state.result === 0) t.ok(typeof where === 'number' && where > 0.5, `${what}: it had ended before`);
      else {
        t.match(state, { code: 'scheduled', result: -2 }, what);
        t.same(await everything(a), before, `${what}: nothing is on the target`);
      }
      usual = Number((await a.service.backUp(id)).duration);
    }
    t.same(await readdir(join(a.stateFolder, 'work')), [], 'nor in the state folder');
  }
});

t.test('a stopped restore leaves the old container as it was, and nothing of a new one', async (t) => {
  const random = seededRandom(seed);
  const dockerd = await ownDockerd(t);
  const a = await makeAppliance(t, { dockerd, flags: ['--undo-hours', '0'] });
  a.alsoDestroy('clone');
  for (const container of [await makeBusyLxc(a, 'kept-lxc', size), await makeBusyDocker(a, dockerd, 'kept-docker', size)]) {
    const { engine, name } = container;
    const { run } = await a.service.backUp(await newJob(a, container));
    const backedUp = await container.trees();
    const create = (to: string) => a.service.create('restore', restoreBody(container, to, String(run)));
    const usual = Number((await a.service.ended('restore', await create('clone'))).duration);
    await engine.remove('clone');
    for (const [round, where] of [0, ...random.spread(points)].entries()) {
      for (const to of [name, 'clone']) {
        await container.change(round + 1);
        const before = await container.trees();
        const id = await create(to);
        await sleep(where * usual);
        const what = `${to} of ${name}, after ${Math.round(where * usual)} ms`;
        const state = await stopped(t, a, 'restore', id, what);
        t.match(state, { code: 'completed', result: /^(-2|0)$/ }, what);
        const expected = state.result === 0 && to === name ? backedUp : before;
        t.same(treeDifferences(expected, await container.trees()), [], `${what}: ${state.result === 0 ? 'it had ended' : 'as it was'}`);
        t.equal(await engine.state(name), 'running', `${what}: the old one runs`);
        t.equal(await engine.state('clone'), state.result === 0 && to === 'clone' ? 'running' : 'absent', `${what}: the clone`);
        await engine.remove('clone');
        t.same(await engine.leftovers(), [], `${what}: no leftovers`);
        t.same((await readdir(join(a.folder, 'hosts'))).sort(), ['kept-docker', 'kept-lxc'], `${what}: nor a folder of the clone`);
      }
    }
  }
});

t.test('no more runs go on at once than backup_concurrent, and one of each container', async (t) => {
  const a = await makeAppliance(t);
  const containers: BusyContainer[] = [];
  for (const name of ['one', 'two', 'three', 'four']) containers.push(await makeBusyLxc(a, name, size));
  const jobs = await Promise.all(containers.map((container) => newJob(a, container)));
  const [one] = containers;
  if (one) jobs.push(await a.service.create('backup', { ...backupBody(one, 0), job_name: 'one again' }));
  for (const limit of [1, 2, 3]) {
    await a.service.call('PUT', '/preference/', { backup_concurrent: limit });
    for (const id of jobs) await a.service.call('PUT', `/backup/${id}/run`);
    const seen = await watchRuns(a.service);
    t.equal(seen.most, limit, `${limit} at a time, and never more`);
    t.notOk(seen.twice, 'never two of one container');
    for (const id of jobs) t.match(await stateOf(a.service, 'backup', id), { result: 0 });
  }
});

interface Seen {
  readonly most: number;
  readonly twice: boolean;
}

/** Polls all jobs until none waits or runs. */
async function watchRuns(service: DemoService): Promise<Seen> {
  let most = 0;
  let twice = false;
  for (;;) {
    const list = await service.call('GET', '/backup/');
    const all = Array.isArray(list) ? list.filter(isBody) : [];
    const running = all.filter(({ state }) => part(state, 'code') === 'running').map(({ container_id }) => String(container_id));
    most = Math.max(most, running.length);
    twice ||= new Set(running).size < running.length;
    if (running.length === 0 && !all.some(({ state }) => part(state, 'code') === 'waiting')) return { most, twice };
    await sleep(5);
  }
}

t.test('a waiting run can be stopped before it begins', async (t) => {
  const a = await makeAppliance(t);
  const containers = [await makeBusyLxc(a, 'one', size), await makeBusyLxc(a, 'two', size)];
  const [first = 0, second = 0] = await Promise.all(containers.map((container) => newJob(a, container)));
  await a.service.call('PUT', '/preference/', { backup_concurrent: 1 });
  await a.service.call('PUT', `/backup/${first}/run`);
  t.match(await a.service.call('PUT', `/backup/${second}/run?view=full`), { state: { code: 'waiting' } });
  t.match(await stopped(t, a, 'backup', second, 'the waiting one'), { code: 'scheduled', result: -2 });
  t.match(await a.service.ended('backup', first), { result: 0 }, 'the other goes on');
  t.match(await a.service.call('GET', `/backup/${second}`), { state: { code: 'scheduled', result: -2 } }, 'and nothing took its place');
  t.match(await a.service.call('PUT', `/backup/${second}/stop`), { state: { code: 'scheduled' } }, 'stopping what does not run is fine');
  t.match(await a.service.backUp(second), { result: 0 }, 'it can run later');
});

t.test('a second service on the same state folder is refused, and the first goes on', async (t) => {
  const a = await makeAppliance(t);
  const container = await makeBusyLxc(a, 'busy', size);
  const id = await newJob(a, container);
  await a.service.backUp(id);
  await container.change(1);
  await a.service.call('PUT', `/backup/${id}/run`);
  for (const end = Date.now() + 10_000; (await readdir(join(a.stateFolder, 'work')).catch(() => [])).length === 0; await sleep(1)) {
    if (Date.now() > end) throw new Error('the run did not begin');
  }
  const { code, stdout, stderr } = await runToEnd(['serve', '--state', a.stateFolder, '--listen', '127.0.0.1:0', '--lxc-path', a.lxcPath]);
  t.equal(code, 1);
  t.match(stderr, new RegExp(`state folder ${a.stateFolder} is in use by another container-backup`));
  t.equal(stderr.trim().split('\n').length, 1, 'one line');
  t.equal(stdout, '');
  t.match(await a.service.ended('backup', id), { result: 0 }, 'the run that went on meanwhile succeeds');
  t.equal(await container.engine.state('busy'), 'running');
});
