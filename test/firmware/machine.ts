/** A virtual NAS: QEMU without KVM, on a copy of the built image. Every wait has a time limit. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from '../support/servers/free-port.js';

const run = promisify(execFile);

/** Root of the source tree; this file runs from dist/test/firmware. */
export const repository = fileURLToPath(new URL('../../../', import.meta.url));

export interface MachineOptions {
  readonly board: string;
  /** Folder of the disk and the console's logs. */
  readonly folder: string;
  /** In MiB; by default the minimum that the appliance promises. */
  readonly memory?: number;
}

export class Machine implements AsyncDisposable {
  #process: ChildProcess | undefined;
  #starts = 0;

  private constructor(
    readonly o: MachineOptions,
    /** Ports of this host; QEMU forwards them to the guest's 443 and 22. */
    readonly httpsPort: number,
    readonly sshPort: number,
  ) {}

  /** Returns a machine that is switched off, on a new disk with an empty data partition. */
  static async assembled(o: MachineOptions): Promise<Machine> {
    const machine = new Machine(o, await freePort(), await freePort());
    await rm(machine.disk, { force: true });
    return machine;
  }

  get disk(): string {
    return join(this.o.folder, 'disk.img');
  }
  get #log(): string {
    return join(this.o.folder, `console-${this.#starts}.log`);
  }
  get on(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** Makes another disk from the image. @returns the path */
  async freshDisk(): Promise<string> {
    const result = join(repository, 'out/firmware', this.o.board);
    const [image] = (await readdir(result)).filter((name) => name.endsWith('.img.zst'));
    if (image === undefined) throw new Error(`no image in ${result}`);
    const path = join(this.o.folder, 'fresh.img');
    await run('zstd', ['-q', '-d', '--sparse', '-f', join(result, image), '-o', path]);
    return path;
  }

  /** Switches the machine on. @param beside a second disk; the guest finds it before the disk that it boots from */
  async start(beside?: string): Promise<void> {
    this.#starts++;
    await rm(this.#log, { force: true });
    const { board, memory } = this.o;
    this.#run({
      BOARD: board,
      DISK: this.disk,
      LOG: this.#log,
      FORWARD: `${this.httpsPort}:443 ${this.sshPort}:22`,
      MEMORY: `${memory ?? 512}`,
      SECONDS_LIMIT: '3600',
      ONCE: '1',
      ...(beside !== undefined && { BESIDE: beside }),
    });
  }

  /** Starts QEMU, and again whenever it exits with 0, which means that the guest restarted. `cutPower` ends that. */
  #run(environment: Readonly<Record<string, string>>): void {
    // pdeathsig: QEMU ends with the suite, also when the suite is killed.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', join(repository, 'firmware/qemu/run')], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'ignore', 'inherit'],
      detached: true, // makes a process group, which cutPower kills as a whole
    });
    child.once('error', () => undefined); // `on` is false then
    child.once('exit', (code) => {
      if (code === 0 && this.#process === child) this.#run(environment);
    });
    this.#process = child;
  }

  /** Kills QEMU. As in a power cut, writes that have not reached the disk are lost. */
  async cutPower(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    process.kill(-child.pid, 'SIGKILL');
    await ended;
  }

  /** Returns the console's output since the machine was switched on. */
  async console(): Promise<string> {
    return readFile(this.#log, 'utf8').catch(() => '');
  }

  /** Waits until the console's output matches. @throws Error with the end of the output, when the time is over or the machine is off */
  async says(pattern: RegExp, limitMs: number): Promise<RegExpExecArray> {
    const until = Date.now() + limitMs;
    for (;;) {
      const found = pattern.exec(await this.console());
      if (found !== null) return found;
      if (!this.on) throw new Error(`the machine is off; it said\n${(await this.console()).slice(-3000)}`);
      if (Date.now() > until)
        throw new Error(`no ${pattern} in ${limitMs / 1000} s; the console said\n${(await this.console()).slice(-3000)}`);
      await sleep(250);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cutPower();
    await rm(this.disk, { force: true });
  }
}
