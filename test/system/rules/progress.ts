/** The long poll: it waits while nothing changes, and reports each change once to each session. */
import { utimes } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { part } from '../../support/api-client.js';
import type { Appliance } from '../../support/appliance.js';
import { heldChild } from '../bed/held-run.js';
import { endedBackup, list, ranAgain, restoreBody } from '../bed/request-bodies.js';
import type { Curl } from './curl.js';
import type { Rules } from './rules.js';

async function poll(curl: Curl, seconds?: number): Promise<{ told: readonly unknown[]; ms: number }> {
  const began = performance.now();
  const { json } = await curl.ask('GET', `/backup/progress${seconds === undefined ? '' : `?duration=${seconds}`}`);
  return { told: list(json), ms: performance.now() - began };
}

/** The cookie of the suite's other session. */
const otherPoll = async (a: Appliance) => list(await a.service.call('GET', '/backup/progress?duration=1'));

/** Polls with both sessions until nothing is left to report. */
async function caughtUp(a: Appliance, curl: Curl): Promise<void> {
  while ((await poll(curl, 1)).told.length > 0 || (await otherPoll(a)).length > 0);
}

export const progressRules: Rules = {
  'a poll without an active job is answered at once': async (t, { a, curl }) => {
    await caughtUp(a, curl);
    for (const seconds of [undefined, 60, 1]) {
      const { told, ms } = await poll(curl, seconds);
      t.strictSame(told, []);
      t.ok(ms < 1000, `${Math.round(ms)} ms`);
    }
    for (const bad of ['0', '61', '-1', '1.5', 'x', ''])
      t.match(await curl.ask('GET', `/backup/progress?duration=${bad}`), { status: 400 }, `duration=${bad}`);
  },

  'a poll waits while nothing changes, reports each change once, and ends with -1': async (t, { a, curl, create, drop }) => {
    const id = await create();
    const held = heldChild(a.service, 'tar');
    await a.service.call('PUT', `/backup/${id}/run`);
    const child = await held;
    const first = await poll(curl, 10);
    t.match(first.told, [{ id, type: 'backup', progress: Number }]);
    t.ok(first.ms < 1000, 'a job that this session knew nothing of is told at once');
    await sleep(700); // bytes from before the suspension of tar may still be reported
    while ((await poll(curl, 1)).told.length > 0);
    const idle = await poll(curl, 2);
    t.strictSame(idle.told, []);
    t.ok(idle.ms > 1900 && idle.ms < 4000, `held for ${Math.round(idle.ms)} of 2000 ms`);
    const waiting = poll(curl, 30);
    await sleep(200);
    child.release();
    const told = [...(await waiting).told];
    t.ok((await waiting).ms < 25_000, 'a change ends the wait');
    while (part(told.at(-1), 'progress') !== -1) told.push(...(await poll(curl, 30)).told);
    const values = told.map((one) => Number(part(one, 'progress')));
    t.ok(
      told.every(
        (one) => part(one, 'id') === id && part(one, 'type') === 'backup' && Object.keys(Object(one)).join() === 'id,progress,type',
      ),
    );
    t.same(
      values.slice(0, -1),
      [...new Set(values.slice(0, -1))].sort((x, y) => x - y),
      `it only grows: ${values.join()}`,
    );
    await endedBackup(a.service, id);
    t.strictSame((await poll(curl, 1)).told, [], 'and nothing is told twice');
    await drop(id, '?purge=true');
  },

  'a run between two polls is reported to every session': async (t, { a, curl, create, drop }) => {
    await caughtUp(a, curl);
    const id = await create({ container_id: 'small' });
    await ranAgain(a.service, id);
    const end = [{ id, progress: -1, type: 'backup' }];
    t.strictSame((await poll(curl, 1)).told, end);
    t.strictSame((await poll(curl, 1)).told, [], 'once');
    t.strictSame(await otherPoll(a), end, 'the other session is told by itself');
    await drop(id, '?purge=true');
  },

  'a poll reports only the jobs that changed': async (t, { a, curl, large, create, drop }) => {
    await utimes(large, 3, 3);
    const id = await create();
    const held = heldChild(a.service, 'tar');
    await a.service.call('PUT', `/backup/${id}/run`);
    const child = await held;
    await sleep(700);
    while ((await poll(curl, 1)).told.length > 0);
    const small = await create({ container_id: 'small', job_name: 'Beside' });
    await ranAgain(a.service, small);
    t.strictSame((await poll(curl, 10)).told, [{ id: small, progress: -1, type: 'backup' }], 'the one that stands still is not among them');
    child.release();
    await endedBackup(a.service, id);
    await caughtUp(a, curl);
    a.alsoDestroy('progress-clone');
    const src = { target: 'local', path: '/test/jobs', portfolio: 'Beside' };
    const restore = await a.service.create('restore', restoreBody({ container_id: 'progress-clone', src }));
    await a.service.ended('restore', restore);
    t.strictSame((await poll(curl, 5)).told, [{ id: restore, progress: -1, type: 'restore' }], 'a restore is told as one');
    for (const one of [id, small]) await drop(one, '?purge=true');
  },
};
