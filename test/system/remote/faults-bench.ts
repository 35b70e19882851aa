/** Backs a container up to a server that fails meanwhile, and checks the result. */
import { randomBytes } from 'node:crypto';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { type Body, isBody, notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { lxc } from '../../support/lxc.js';
import type { RemoteBed } from '../../support/servers/remotes.js';
import { faultsOf, leftoversOf, strayFiles } from './record.js';

/** Large enough that at this bandwidth a fault hits the middle, and small enough for twenty runs. */
const bytes = 12 << 20;
const bandwidth = 12 << 20;

export class RemoteFaults {
  private constructor(
    readonly a: Appliance,
    readonly bed: RemoteBed,
    readonly profile: number,
    readonly job: number,
    readonly name: string,
  ) {}

  static async open(t: Test, bed: RemoteBed, flags: readonly string[] = []): Promise<RemoteFaults> {
    const a = await makeAppliance(t, { flags: ['--undo-hours', '0', ...flags] });
    const name = `faults-${bed.kind}`;
    await a.lxc(name);
    const profile = Number(part(await a.service.call('POST', '/target', { ...bed.body, bandwidth_limit: bandwidth }), 'id'));
    const dest = { target: 'remote', profile, path: bed.path };
    const body = { job_name: name, container_id: name, type: 'lxc', dest, at: notSoon(), retention: 2, features: ['compress', 'pause'] };
    return new RemoteFaults(a, bed, profile, await a.service.create('backup', body), name);
  }

  get #record(): string {
    return `container-backup@${this.name}`;
  }
  get #data(): string {
    return join(this.a.lxcPath, this.name, 'volumes/data');
  }

  /** Writes new bytes and backs them up, with a fault meanwhile. */
  async run(fault: () => Promise<void> = async () => undefined): Promise<Body> {
    await writeFile(join(this.#data, 'changing'), randomBytes(bytes));
    await this.a.service.call('PUT', `/backup/${this.job}/run`);
    await fault();
    return this.a.service.settled('backup', this.job);
  }

  async listed(): Promise<Body[]> {
    const runs = await this.a.service.call('GET', `/backup/${this.job}/runs`);
    return Array.isArray(runs) ? runs.filter(isBody) : [];
  }

  /** Checks that there is no false success, that the container runs, and that every listed run is whole. @returns whether the run succeeded */
  async check(t: Test, state: Body, what: string): Promise<boolean> {
    const info = await lxc('info', this.a.lxcPath, this.name, '-sH');
    t.equal(info.trim(), 'RUNNING', `${what}: the container runs`);
    const succeeded = state.result === 0;
    const runs = await this.listed();
    if (succeeded) {
      t.equal(runs[0]?.run, state.run, `${what}: it succeeded, and its run is listed`);
      t.same(await faultsOf(this.bed.root, this.#record, String(state.run)), [], `${what}: and every byte of it is right`);
    } else {
      const error = part(state, 'error');
      t.ok(
        ['unavailable', 'stalled', 'damaged', 'no_space'].includes(String(part(error, 'code'))),
        `${what}: it failed: ${JSON.stringify(error)}`,
      );
      t.same(
        runs.filter((one) => one.ok !== true),
        [],
        `${what}: and is not listed`,
      );
    }
    return succeeded;
  }

  /** Fills the server's disk almost to its end. `free` frees it again. */
  async fill(): Promise<void> {
    const { bavail, bsize } = await statfs(this.bed.root);
    await writeFile(this.#ballast, Buffer.alloc(Math.max(0, bavail * bsize - (8 << 20))));
  }
  async free(): Promise<void> {
    await rm(this.#ballast);
  }
  get #ballast(): string {
    return join(this.bed.root, '../../ballast');
  }

  /** Checks that the next run is good, that no file of a broken run is left, and that a clone has the right content. */
  async recovers(t: Test): Promise<void> {
    const state = await this.run();
    t.equal(state.result, 0, `the next run is good: ${JSON.stringify(part(state, 'error'))}`);
    t.same(await leftoversOf(this.bed.root), [], 'leftovers are collected');
    t.same(await strayFiles(this.bed.root, this.#record), [], 'so is all that no manifest needs');
    const before = await snapshotOf(this.#data);
    const clone = `${this.name}-clone`;
    this.a.alsoDestroy(clone);
    const src = { target: 'remote', profile: this.profile, path: this.bed.path, portfolio: this.name };
    const restore = await this.a.service.create('restore', { job_name: 'clone', container_id: clone, type: 'lxc', src });
    await this.a.service.ended('restore', restore);
    t.same(differences(before, await snapshotOf(join(this.a.lxcPath, clone, 'volumes/data'))), [], 'it comes back without a difference');
  }
}

/** Kills the server for a moment, or only its connections. */
export async function killedFor(bed: RemoteBed, atMs: number, awayMs: number, connectionsOnly: boolean): Promise<void> {
  await sleep(atMs);
  if (connectionsOnly) return bed.killConnections();
  await bed.kill();
  await sleep(awayMs);
  await bed.start();
}
