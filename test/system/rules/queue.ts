/** Runs that wait, continue and are stopped, and the requests that the service refuses meanwhile. The runs of the large container are
 *  suspended for these tests. */
import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { lxc } from '../../support/lxc.js';
import { heldChild } from '../bed/held-run.js';
import { accepted, allIn, backedUp, endedBackup, list, stateOf } from '../bed/request-bodies.js';
import type { Rules } from './rules.js';

const stopLimit = 5000;

const run = (a: Appliance, id: number) => a.service.call('PUT', `/backup/${id}/run`);
const codeOf = async (a: Appliance, id: number) => (await stateOf(a.service, 'backup', id)).code;
const inState = (a: Appliance, name: string) => lxc('info', a.lxcPath, name, '-sH');

export const queueRules: Rules = {
  'a job that runs is not started again and not deleted, and a change counts for its next run': async (t, { a, ask, create }) => {
    const id = await create({ job_name: 'Busy' });
    const held = heldChild(a.service, 'tar');
    await run(a, id);
    const child = await held;
    const state = await stateOf(a.service, 'backup', id);
    t.match(state, { code: 'running', next_run: / 01:00:00$/ });
    t.ok(Number(state.progress) >= -1 && Number(state.progress) <= 99, `progress ${state.progress}`);
    t.same(Object.keys(state), ['code', 'last_run', 'next_run', 'progress']);
    t.match(await ask('PUT', `/backup/${id}/run`), { status: 409, json: { error: { code: 409 } } });
    t.match(await ask('DELETE', `/backup/${id}`), { status: 409 });
    t.match(await ask('DELETE', `/backup/${id}?purge=true`), { status: 409 });
    t.match(await ask('PUT', `/backup/${id}`, { job_name: 'Renamed', disable: true }), {
      status: 200,
      json: { job_name: 'Renamed', state: { code: 'running' } },
    });
    child.release();
    t.match(await endedBackup(a.service, id), { result: 0 });
    const records = (await allIn(join(a.share, 'jobs'))).filter((path) => path.startsWith('container-backup@'));
    t.ok(records.some((path) => path.startsWith('container-backup@Busy/')));
    t.notOk(
      records.some((path) => path.startsWith('container-backup@Renamed')),
      'the run that went on keeps to what it was told',
    );
    t.strictSame(await ask('DELETE', `/backup/${id}`).then(({ json }) => json), [id]);
  },

  'a container has one run at a time, other containers overtake, and backup_concurrent limits all': async (t, { a, ask, create, drop }) => {
    const [first, same, small, other] = [
      await create(),
      await create(),
      await create({ container_id: 'small' }),
      await create({ container_id: 'other' }),
    ];
    const codes = () => Promise.all([first, same, small, other].map((id) => codeOf(a, id)));
    const held = heldChild(a.service, 'tar');
    await run(a, first);
    const child = await held;
    await run(a, same);
    await run(a, small);
    t.match(await endedBackup(a.service, small), { result: 0 });
    t.same(await codes(), ['running', 'waiting', 'scheduled', 'scheduled']);
    await a.service.call('PUT', '/preference/', { backup_concurrent: 1 });
    await run(a, small);
    await run(a, other);
    await sleep(300);
    t.same(await codes(), ['running', 'waiting', 'waiting', 'waiting']);
    t.match(await ask('PUT', `/backup/${small}/run`), { status: 409 }, 'one that waits is not run twice');
    t.match(await ask('DELETE', `/backup/${small}`), { status: 409 }, 'nor deleted');
    for (const id of [same, other]) {
      const stopped = part(await a.service.call('PUT', `/backup/${id}/stop`), 'state');
      t.match(stopped, { code: 'scheduled', result: -2, next_run: / 01:00:00$/ });
      t.same(Object.keys(Object(stopped)), ['code', 'next_run', 'result'], 'one that never began has no last run');
    }
    const raised = Date.now();
    await a.service.call('PUT', '/preference/', { backup_concurrent: 2 });
    t.match(await endedBackup(a.service, small), { result: 0 });
    t.equal(await codeOf(a, first), 'running');
    t.ok(Date.now() - raised < 15_000, 'a limit that is raised counts at once');
    child.release();
    t.match(await endedBackup(a.service, first), { result: 0 });
    for (const id of [first, same, small, other]) await drop(id, '?purge=true');
  },

  'a run that is stopped in its pause resumes the container within 5 s': async (t, { a, large, drop }) => {
    const { id } = await backedUp(a.service, { features: ['pause'] });
    const before = await allIn(join(a.share, 'jobs'));
    await run(a, id);
    // A file that changes until the pause is read again in the pause.
    while ((await inState(a, 'utest')) !== 'FROZEN') await utimes(large, 2, new Date());
    await heldChild(a.service, 'tar');
    t.equal(await inState(a, 'utest'), 'FROZEN');
    const began = Date.now();
    const stopped = await a.service.call('PUT', `/backup/${id}/stop`);
    t.ok(Date.now() - began < stopLimit, `${Date.now() - began} ms`);
    t.match(part(stopped, 'state'), { code: 'scheduled', result: -2 });
    t.equal(await inState(a, 'utest'), 'RUNNING');
    t.same(await allIn(join(a.share, 'jobs')), before, 'and nothing of it is left');
    await drop(id, '?purge=true');
  },

  'stopping a job that does not run changes nothing': async (t, { a, ask, create, drop }) => {
    const { id } = await backedUp(a.service, { container_id: 'small' });
    const before = await a.service.call('GET', `/backup/${id}?view=full`);
    t.strictSame(await a.service.call('PUT', `/backup/${id}/stop`), await a.service.call('GET', `/backup/${id}`));
    t.strictSame(await a.service.call('GET', `/backup/${id}?view=full`), before);
    t.equal(list(await a.service.call('GET', `/backup/${id}/runs`)).length, 1);
    await drop(id, '?purge=true');
    const never = await accepted(a.service, await create());
    t.match(await ask('PUT', `/backup/${never}/stop`), { status: 200, json: { state: { code: 'scheduled' } } });
    await drop(never);
  },
};
