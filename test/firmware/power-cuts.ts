/** Power cuts in the middle of a backup. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { isBody, part } from '../support/api-client.js';
import type { GuestAppliance } from './appliance.js';
import { restore, type Subject, starts } from './containers.js';

export interface BackedUp {
  readonly subject: Subject;
  /** To the data partition. */
  readonly job: number;
}

/** A backup takes some 6 s there. */
const apartMs = 1000;
const place = { target: 'local', path: '/backup' } as const;

const stateOf = async (appliance: GuestAppliance, job: number): Promise<unknown> =>
  part(await appliance.api.call('GET', `/backup/${job}?view=full`), 'state');
const isRunning = (state: unknown): boolean => part(state, 'code') === 'running';

/** Cuts while a job runs, of each container in turn, each time at another moment; in the run that follows an earlier cut, too. */
export class PowerCuts {
  #made = 0;
  #within = 0;
  /** What the data of each is as long as nobody harms it. */
  #digests: readonly string[] = [];

  constructor(
    readonly appliance: GuestAppliance,
    readonly all: readonly BackedUp[],
  ) {}

  /** One more: the login, the jobs and the containers are there again.
   *  @param beside a second disk, which the machine finds before its own when it starts again */
  async cut(t: Test, beside?: string): Promise<void> {
    const { appliance, all } = this;
    if (this.#made === 0) this.#digests = await Promise.all(all.map(({ subject }) => subject.digest()));
    const n = this.#made++;
    const { job } = this.#next(n);
    await appliance.api.call('PUT', `/backup/${job}/run`);
    for (let tries = 600; !isRunning(await stateOf(appliance, job)) && tries > 0; tries--) await sleep(100);
    await sleep(apartMs * n);
    if (isRunning(await stateOf(appliance, job))) this.#within++;
    await appliance.powerCut(beside);
    const state = await stateOf(appliance, job);
    t.ok(isBody(state) && [0, -1].includes(Number(state.result)), `cut ${n + 1}: the job is told as ${JSON.stringify(state)}`);
    for (const [m, { subject }] of all.entries()) {
      await starts(subject);
      t.equal(await subject.digest(), this.#digests[m], `cut ${n + 1}, ${subject.type}: it runs, and its data is what it was`);
    }
  }
  #next(n: number): BackedUp {
    const next = this.all[n % this.all.length];
    if (next === undefined) throw new Error('nothing is backed up');
    return next;
  }

  /** There were so many, and most within a run; the job of each has a good run after them, and it comes back from that. */
  async end(t: Test, times: number): Promise<void> {
    const { appliance, all } = this;
    t.equal(this.#made, times, `${times} power cuts`);
    t.ok(this.#within >= Math.ceil(times / 2), `${this.#within} of them while the job ran`);
    await Promise.all(
      all.map(async ({ subject, job }, m) => {
        await appliance.api.backUp(job);
        await subject.harm();
        t.not(await subject.digest(), this.#digests[m], `${subject.type}: harmed after a run that is good`);
        await restore(appliance.api, subject, place, `${subject.type}-data`);
        t.equal(await subject.digest(), this.#digests[m], `${subject.type}: it comes back from that run`);
        t.ok(await subject.running(), `${subject.type}: it runs`);
      }),
    );
  }
}
