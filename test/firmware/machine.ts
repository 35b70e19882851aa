/** A NAS that is not there: QEMU without KVM, on a disk that is a copy of the built image. Every wait has an end. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePort } from '../support/servers/free-port.js';

const run = promisify(execFile);

/** Of the source tree: this file runs from dist/test/firmware. */
export const repository = fileURLToPath(new URL('../../../', import.meta.url));

export interface MachineOptions {
  readonly board: string;
  /** Where its disk and what its console says are kept. */
  readonly folder: string;
  /** MiB; the least that is promised. */
  readonly memory?: number;
}

export class Machine implements AsyncDisposable {
  #process: ChildProcess | undefined;
  #starts = 0;

  private constructor(
    readonly o: MachineOptions,
    /** Of this machine, and lead to the guest's 443 and 22. */
    readonly httpsPort: number,
    readonly sshPort: number,
  ) {}

  /** With an empty data partition; switched off. */
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

  /** Another disk with the image, as it comes from the download. @returns its path */
  async freshDisk(): Promise<string> {
    const result = join(repository, 'out/firmware', this.o.board);
    const [image] = (await readdir(result)).filter((name) => name.endsWith('.img.zst'));
    if (image === undefined) throw new Error(`no image in ${result}`);
    const path = join(this.o.folder, 'fresh.img');
    await run('zstd', ['-q', '-d', '--sparse', '-f', join(result, image), '-o', path]);
    return path;
  }

  /** Switches it on. @param beside a second disk, which it finds before the one that it starts from */
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

  /** Until somebody switches it off: it ends with 0 when its own system restarts it. */
  #run(environment: Readonly<Record<string, string>>): void {
    // pdeathsig: a suite that is killed in the middle leaves nothing running either
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', join(repository, 'firmware/qemu/run')], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'ignore', 'inherit'],
      detached: true, // a group of its own, to be ended as a whole
    });
    child.once('error', () => undefined); // it is not on, then
    child.once('exit', (code) => {
      if (code === 0 && this.#process === child) this.#run(environment);
    });
    this.#process = child;
  }

  /** As a power cut switches it off: nothing that it has not yet given to its disk is written any more. */
  async cutPower(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    process.kill(-child.pid, 'SIGKILL');
    await ended;
  }

  /** All that it has said on its console since it was switched on. */
  async console(): Promise<string> {
    return readFile(this.#log, 'utf8').catch(() => '');
  }

  /** What the console says, once it does. @throws Error with the end of it, when it does not in time */
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
