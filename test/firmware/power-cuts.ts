/** Power cuts in the middle of a backup. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { isBody, part } from '../support/api-client.js';
import type { GuestAppliance } from './appliance.js';
import { restore, type Subject } from './containers.js';

interface Course {
  readonly subjects: readonly Subject[];
  /** Of the subjects, in their order, to the data partition. */
  readonly jobs: readonly number[];
  readonly times: number;
}

/** A backup takes some 14 s there. */
const apartMs = 2000;
const place = { target: 'local', path: '/backup' } as const;

/** Cuts while a job runs, each time at another moment. The container runs as it did, and the job's next run is
 *  good; from the last one of each it comes back. */
export async function cutsDuringBackup(t: Test, appliance: GuestAppliance, { subjects, jobs, times }: Course): Promise<void> {
  let within = 0;
  for (let n = 0; n < times; n++) {
    const [subject, job] = [subjects[n % subjects.length], jobs[n % subjects.length]];
    if (subject === undefined || job === undefined) throw new Error('a job for each subject');
    const before = await subject.digest();
    await appliance.api.call('PUT', `/backup/${job}/run`);
    for (let tries = 600; part(await stateOf(appliance, job), 'code') !== 'running' && tries > 0; tries--) await sleep(100);
    await sleep(apartMs * n);
    if (part(await stateOf(appliance, job), 'code') === 'running') within++;
    await appliance.machine.cutPower();
    const twin = n === 0 ? await appliance.machine.freshDisk() : undefined;
    await appliance.boot(twin); // from its own disk all the same: the login, the jobs and the containers are there
    await appliance.logIn();
    await appliance.shellAnswers();
    const what = `cut ${n + 1}, ${subject.type}`;
    const state = await stateOf(appliance, job);
    t.ok(isBody(state) && [0, -1].includes(Number(state.result)), `${what}: the job is told as ${JSON.stringify(state)}`);
    for (let tries = 60; !(await subject.running()) && tries > 0; tries--) await sleep(1000);
    t.ok(await subject.running(), `${what}: the container runs`);
    t.equal(await subject.digest(), before, `${what}: its data is what it was`);
    await appliance.api.backUp(job);
    t.pass(`${what}: the next run is good`);
    if (n < times - subjects.length) continue;
    await subject.harm();
    await restore(appliance.api, subject, place, `${subject.type}-data`);
    t.equal(await subject.digest(), before, `${what}: it comes back from that run`);
  }
  t.ok(within >= Math.ceil(times / 2), `${within} of ${times} cuts were while the job ran`);
}

const stateOf = async (appliance: GuestAppliance, job: number): Promise<unknown> =>
  part(await appliance.api.call('GET', `/backup/${job}?view=full`), 'state');
