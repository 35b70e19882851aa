/** Power cuts in the middle of a backup. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { isBody, part } from '../support/api-client.js';
import type { GuestAppliance } from './appliance.js';
import { restore, type Subject, starts } from './containers.js';

export interface BackedUp {
  readonly subject: Subject;
  /** Id of the job that backs it up to the data partition. */
  readonly job: number;
}

/** Each cut comes this much later in the run than the one before. A backup takes about 6 s in the guest. */
const apartMs = 1000;
const place = { target: 'local', path: '/backup' } as const;

const stateOf = async (appliance: GuestAppliance, job: number): Promise<unknown> =>
  part(await appliance.api.call('GET', `/backup/${job}?view=full`), 'state');
const isRunning = (state: unknown): boolean => part(state, 'code') === 'running';

/** Cuts the power while a job runs: the containers take turns, and each cut comes at another moment of the run. */
export class PowerCuts {
  #made = 0;
  #within = 0;
  /** Digest of each container's intact data. */
  #digests: readonly string[] = [];

  constructor(
    readonly appliance: GuestAppliance,
    readonly all: readonly BackedUp[],
  ) {}

  /** Cuts the power once and checks that login, jobs and containers work again.
   *  @param beside a second disk; the guest finds it before its own at the next start */
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
    t.ok(isBody(state) && [0, -1].includes(Number(state.result)), `cut ${n + 1}: the job reports ${JSON.stringify(state)}`);
    for (const [m, { subject }] of all.entries()) {
      await starts(subject);
      t.equal(await subject.digest(), this.#digests[m], `cut ${n + 1}, ${subject.type}: it runs, and its data is unchanged`);
    }
  }
  #next(n: number): BackedUp {
    const next = this.all[n % this.all.length];
    if (next === undefined) throw new Error('nothing is backed up');
    return next;
  }

  /** Checks the number of cuts, and that at least half of them hit a run. Then backs up, harms and restores each container. */
  async end(t: Test, times: number): Promise<void> {
    const { appliance, all } = this;
    t.equal(this.#made, times, `${times} power cuts`);
    t.ok(this.#within >= Math.ceil(times / 2), `${this.#within} of them hit a run`);
    await Promise.all(
      all.map(async ({ subject, job }, m) => {
        await appliance.api.backUp(job);
        await subject.harm();
        t.not(await subject.digest(), this.#digests[m], `${subject.type}: harmed after a successful run`);
        await restore(appliance.api, subject, place, `${subject.type}-data`);
        t.equal(await subject.digest(), this.#digests[m], `${subject.type}: the restore brings all of it back`);
        t.ok(await subject.running(), `${subject.type}: it runs`);
      }),
    );
  }
}
