/** Power cuts in the middle of a backup. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { isBody, part } from '../support/api-client.js';
import type { GuestAppliance } from './appliance.js';
import { restore, type Subject, starts } from './containers.js';

interface BackedUp {
  readonly subject: Subject;
  /** To the data partition. */
  readonly job: number;
}

/** A backup takes some 6 s there. */
const apartMs = 1000;
const place = { target: 'local', path: '/backup' } as const;

/** Cuts while a job runs, each time at another moment, in the run that follows an earlier cut, too. The container runs as it did;
 *  in the end the job of each has a good run, and it comes back from that. */
export async function cutsDuringBackup(t: Test, appliance: GuestAppliance, all: readonly BackedUp[], times: number): Promise<void> {
  const digests = await Promise.all(all.map(({ subject }) => subject.digest()));
  let within = 0;
  for (const [n, { job }] of inTurn(all, times)) {
    const twin = n === 0 ? await appliance.machine.freshDisk() : undefined;
    await appliance.api.call('PUT', `/backup/${job}/run`);
    for (let tries = 600; part(await stateOf(appliance, job), 'code') !== 'running' && tries > 0; tries--) await sleep(100);
    await sleep(apartMs * n);
    if (part(await stateOf(appliance, job), 'code') === 'running') within++;
    await appliance.powerCut(twin); // from its own disk all the same: the login, the jobs and the containers are there
    const state = await stateOf(appliance, job);
    t.ok(isBody(state) && [0, -1].includes(Number(state.result)), `cut ${n + 1}: the job is told as ${JSON.stringify(state)}`);
    for (const [m, { subject }] of all.entries()) {
      await starts(subject);
      t.equal(await subject.digest(), digests[m], `cut ${n + 1}, ${subject.type}: it runs, and its data is what it was`);
    }
  }
  t.ok(within >= Math.ceil(times / 2), `${within} of ${times} cuts were while the job ran`);
  await Promise.all(
    all.map(async ({ subject, job }, m) => {
      await appliance.api.backUp(job);
      await subject.harm();
      t.not(await subject.digest(), digests[m], `${subject.type}: harmed after a run that is good`);
      await restore(appliance.api, subject, place, `${subject.type}-data`);
      t.equal(await subject.digest(), digests[m], `${subject.type}: it comes back from that run`);
      t.ok(await subject.running(), `${subject.type}: it runs`);
    }),
  );
}

/** So many of them with their number, the first again after the last. */
function* inTurn<T>(all: readonly T[], times: number): Generator<[number, T]> {
  for (let n = 0; n < times; ) for (const one of all.slice(0, times - n)) yield [n++, one];
}

const stateOf = async (appliance: GuestAppliance, job: number): Promise<unknown> =>
  part(await appliance.api.call('GET', `/backup/${job}?view=full`), 'state');
