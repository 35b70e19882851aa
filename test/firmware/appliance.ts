/** The image in a machine, used as its owner uses it: through the console and the API. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiClient, part } from '../support/api-client.js';
import { Machine, type MachineOptions } from './machine.js';
import { Shell } from './shell.js';
import { Tunnel } from './tunnel.js';

/** Limit for a cold boot without KVM on two busy cores, including two earlier boots of a broken slot. It ends a suite whose guest hangs. */
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

  /** Returns a machine that is switched off, on a new disk. */
  static async boxed(o: MachineOptions): Promise<GuestAppliance> {
    const machine = await Machine.assembled(o);
    return new GuestAppliance(machine, await Tunnel.to(machine.httpsPort), await Shell.to(machine.sshPort, o.folder));
  }

  /** Switches the machine on. @param beside a second disk @returns seconds until the API answers */
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

  /** Each try has a time limit, because QEMU accepts connections that the guest does not answer yet. */
  async ready(): Promise<boolean> {
    return fetch(`${this.tunnel.address}/readyz`, { signal: AbortSignal.timeout(15_000) }).then(
      ({ ok }) => ok,
      () => false,
    );
  }

  /** Logs in as the admin. With the console's setup code, creates the admin first. */
  async logIn(setupCode?: string): Promise<void> {
    this.api = new ApiClient(this.tunnel.address);
    await this.api.logIn(setupCode);
  }

  /** Switches SSH on for the suite's key and waits until it answers. */
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

  /** Cuts the power and boots again. Waits until the admin is logged in and the shell answers. @param beside a second disk */
  async powerCut(beside?: string): Promise<void> {
    await this.machine.cutPower();
    await this.boot(beside);
    await this.logIn();
    await this.shellAnswers();
  }

  /** Waits, after an ordered restart, until the boot id is not `before` and the admin is logged in. */
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

  /** Returns the state of the update, as the API reports it. */
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
