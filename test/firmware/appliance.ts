/** The image in its machine, as its owner meets it: the console shows where and how, the rest is the API. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiClient, part } from '../support/api-client.js';
import { Machine, type MachineOptions } from './machine.js';
import { Shell } from './shell.js';
import { Tunnel } from './tunnel.js';

/** A cold boot without KVM on two busy cores, the third when two of a broken slot come before; what hangs must not hang the suite. */
const bootMs = 480_000;

export class GuestAppliance implements AsyncDisposable {
  api: ApiClient;

  private constructor(
    readonly machine: Machine,
    readonly tunnel: Tunnel,
    readonly shell: Shell,
  ) {
    this.api = new ApiClient(tunnel.address);
  }

  /** In the box: assembled, off. */
  static async boxed(o: MachineOptions): Promise<GuestAppliance> {
    const machine = await Machine.assembled(o);
    return new GuestAppliance(machine, await Tunnel.to(machine.httpsPort), await Shell.to(machine.sshPort, o.folder));
  }

  /** @param beside a second disk @returns seconds from switching on until the API answers */
  async boot(beside?: string): Promise<number> {
    const began = Date.now();
    await this.machine.start(beside);
    await this.answers();
    return (Date.now() - began) / 1000;
  }

  /** Waits until the API is ready. */
  async answers(): Promise<void> {
    const until = Date.now() + bootMs;
    while (!(await this.ready())) {
      if (!this.machine.on) throw new Error(`the machine is off; it said\n${(await this.machine.console()).slice(-3000)}`);
      if (Date.now() > until)
        throw new Error(`no answer in ${bootMs / 1000} s; the console said\n${(await this.machine.console()).slice(-3000)}`);
      await sleep(1000); // a handshake costs the machine some tenths of a second
    }
  }

  /** QEMU takes connections that nobody in the guest answers: each try has an end of its own. */
  async ready(): Promise<boolean> {
    return fetch(`${this.tunnel.address}/readyz`, { signal: AbortSignal.timeout(15_000) }).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  /** As its admin, whom it makes with the code that the console shows; later without. */
  async logIn(setupCode?: string): Promise<void> {
    this.api = new ApiClient(this.tunnel.address);
    await this.api.logIn(setupCode);
  }

  /** Switches SSH on for the suite's key, and waits until it answers. */
  async openShell(): Promise<void> {
    await this.api.call('PUT', '/system/ssh', { enabled: true, authorized_keys: [this.shell.publicKey] });
    await this.shellAnswers();
  }
  async shellAnswers(): Promise<void> {
    for (let tries = 30; ; tries--) {
      try {
        await this.shell.run('true', 30_000);
        return;
      } catch (error) {
        if (tries === 0) throw error;
        await sleep(2000);
      }
    }
  }

  /** The power goes and comes back. Waits until its admin is logged in and its shell answers. @param beside a second disk */
  async powerCut(beside?: string): Promise<void> {
    await this.machine.cutPower();
    await this.boot(beside);
    await this.logIn();
    await this.shellAnswers();
  }

  /** After a restart that somebody has ordered: waits until the machine that answers is another boot than `before`. */
  async restarted(before: string): Promise<void> {
    const until = Date.now() + bootMs;
    for (;;) {
      const now = await this.bootId().catch(() => before);
      if (now !== before) break;
      if (Date.now() > until)
        throw new Error(`not restarted in ${bootMs / 1000} s; the console said\n${(await this.machine.console()).slice(-3000)}`);
      await sleep(2000);
    }
    await this.answers();
    await this.logIn();
  }
  async bootId(): Promise<string> {
    return (await this.shell.run('cat /proc/sys/kernel/random/boot_id', 30_000)).trim();
  }

  /** What the API says of the update. */
  async update(): Promise<unknown> {
    return this.api.call('GET', '/update/');
  }
  async slot(): Promise<string> {
    return String(part(await this.update(), 'slot'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tunnel[Symbol.asyncDispose]();
    await this.machine[Symbol.asyncDispose]();
  }
}
