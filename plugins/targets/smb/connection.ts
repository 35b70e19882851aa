import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { PluginError } from '../../../core/contract/index.js';
import { connectError, isLost, statusIn, unavailable } from './failure.js';
import type { Login } from './login.js';

/** Time limits of one command, and of one that works on a whole tree. */
const commandTime = 20_000;
export const treeTime = 600_000;
/** An idle smbclient is killed: it takes 20 to 60 MB, and a new one starts in 0.1 s. */
const idleTime = 30_000;
/** smbclient's own limit for an answer of the server, in seconds. */
const answerTime = 10;

export interface Answer {
  readonly output: string;
  /** NT_STATUS of a failure. */
  readonly status?: string;
}

export interface RunOptions {
  readonly timeout?: number;
  /** Never repeat the command, even if it is unknown whether it worked. */
  readonly once?: boolean;
}

/** One smbclient that reads one command per line. Without a terminal it shows no prompt, so an unknown command, a new random word
 *  each time, marks the end of an answer. Its output goes to stderr, which it does not buffer. */
class Channel {
  readonly #child: ChildProcess;
  #chunks: string[] = [];
  #end = '';
  #tail = '';
  #waiting: { resolve: (text: string) => void; reject: (error: PluginError) => void; timer: NodeJS.Timeout } | undefined;
  dead = false;
  /** It was killed because it did not answer. */
  hung = false;

  constructor(
    readonly login: Login,
    readonly share: string,
  ) {
    this.#child = login.start([login.service(share)], { byteInput: true, timeout: answerTime });
    this.#child.stdin?.on('error', () => undefined); // 'close' reports it
    this.#child.stdout?.resume();
    this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => this.#take(chunk));
    this.#child.once('error', () => this.#closed());
    this.#child.once('close', () => this.#closed());
  }
  #take(chunk: string): void {
    this.#chunks.push(chunk);
    this.#tail = (this.#tail + chunk).slice(-this.#end.length);
    if (this.#waiting === undefined || this.#tail !== this.#end) return;
    const text = this.#chunks.join('');
    this.#settle()?.resolve(text.slice(0, -this.#end.length));
  }
  #settle() {
    const waiting = this.#waiting;
    clearTimeout(waiting?.timer);
    this.#waiting = undefined;
    this.#chunks = [];
    return waiting;
  }
  #closed(): void {
    this.dead = true;
    const text = this.#chunks.join('');
    this.#settle()?.reject(connectError(text, this.login.peer(this.share)));
  }
  /** Runs one command at a time. '' only waits for the connection. */
  exchange(command: string, timeout: number): Promise<string> {
    const word = `end-${randomBytes(8).toString('hex')}`;
    this.#end = `${word}: command not found\n`;
    this.#tail = '';
    return new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.hung = true;
        this.kill();
        this.#settle()?.reject(unavailable(this.login.peer(this.share), `no answer in ${timeout / 1000} s`));
      }, timeout);
      this.#waiting = { resolve, reject, timer };
      if (this.dead) this.#closed();
      else this.#child.stdin?.write(command === '' ? `${word}\n` : `${command}\n${word}\n`);
    });
  }
  kill(): void {
    this.dead = true;
    this.#child.kill('SIGKILL');
  }
}

/** Runs commands on one share, one after the other. Reconnects after a break. */
export class Connection {
  #channel: Channel | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;
  #idle: NodeJS.Timeout | undefined;
  /** When the server last failed to answer, epoch ms. */
  #hung = 0;

  constructor(
    readonly login: Login,
    readonly share: string,
  ) {}

  /** Connects to the share. @throws PluginError unavailable, denied, not_found, unsupported */
  connect(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#open();
    });
  }
  /** Runs one command. A refusal of the server is a status, not an error.
   *  @throws PluginError unavailable, and as connect */
  run(command: string, o: RunOptions = {}): Promise<Answer> {
    return this.#exclusive(() => this.#run(command, o));
  }
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    clearTimeout(this.#idle);
    const asked = Date.now();
    const result = this.#last.then(() => {
      // a command that waited while the server did not answer fails at once, instead of waiting again
      if (asked < this.#hung) throw unavailable(this.login.peer(this.share), 'it has stopped answering');
      return work();
    });
    const last = result.then(
      () => undefined,
      () => undefined,
    );
    this.#last = last;
    last.then(() => {
      if (this.#last !== last || this.#closed) return;
      this.#idle = setTimeout(() => this.#drop(), idleTime).unref();
    });
    return result;
  }
  async #run(command: string, o: RunOptions): Promise<Answer> {
    const used = this.#channel !== undefined && !this.#channel.dead;
    const begun = Date.now();
    const answer = await this.#attempt(command, o).catch((error: unknown) => {
      // an idle connection may have broken unnoticed: run the command again
      if (!used || o.once || this.#hung >= begun || (error instanceof PluginError && error.code !== 'unavailable')) throw error;
      return undefined;
    });
    return answer ?? this.#attempt(command, o);
  }
  async #attempt(command: string, { timeout = commandTime }: RunOptions): Promise<Answer> {
    const channel = await this.#open();
    const output = await this.#exchange(channel, command, timeout);
    const status = statusIn(output);
    if (status === undefined) return { output };
    if (!isLost(status)) return { output, status };
    this.#drop();
    if (status === 'IO_TIMEOUT') this.#hung = Date.now();
    throw unavailable(this.login.peer(this.share), status);
  }
  async #exchange(channel: Channel, command: string, timeout: number): Promise<string> {
    try {
      return await channel.exchange(command, timeout);
    } catch (error) {
      if (channel.hung) this.#hung = Date.now();
      throw error;
    }
  }
  async #open(): Promise<Channel> {
    if (this.#closed) throw new PluginError('aborted', `share ${this.share}: closed`);
    if (this.#channel !== undefined && !this.#channel.dead) return this.#channel;
    const channel = new Channel(this.login, this.share);
    this.#channel = channel;
    await this.#exchange(channel, '', commandTime);
    return channel;
  }
  #drop(): void {
    this.#channel?.kill();
    this.#channel = undefined;
  }
  close(): void {
    this.#closed = true;
    clearTimeout(this.#idle);
    this.#drop();
  }
}
