import { setTimeout as sleep } from 'node:timers/promises';
import { PluginError, type PluginLog } from '../../../core/contract/index.js';
import { abortError, untilAborted } from '../../shared/source.js';
import { connectSsh, type SshConnection, type SshOptions } from '../../shared/ssh.js';
import { type Ended, type RunOptions, runRsync } from './child.js';
import { isLocked, lacksOption, rsyncError } from './failure.js';
import { type Remote, remoteOf } from './remote.js';
import { Turns } from './turns.js';

/** How long a broken connection is tried anew. */
const patience = 40_000;
const firstWait = 250;
const longestWait = 5_000;

/** A server allows ten channels on a connection (MaxSessions); one is left to what may still be ending. */
const channels = 9;

export interface Call extends Pick<RunOptions, 'input' | 'enough' | 'limit'> {
  readonly signal: AbortSignal;
  /** For messages: what is tried. */
  readonly what: string;
  /** The like of it follows soon: a server that waits with its rsync ready saves the time of its start. */
  readonly again?: boolean;
  /** Done before each try. */
  readonly before?: (() => Promise<void>) | undefined;
  /** Other ends than 0 that are no failure. */
  readonly fine?: (ended: Ended) => boolean;
}

interface Waiting {
  readonly command: string;
  readonly connection: SshConnection;
  readonly remote: Promise<Remote>;
}

/** Runs rsync with one server, over one connection, which is made anew when it breaks. */
export class Session {
  #connection: Promise<SshConnection> | undefined;
  #banner: string | undefined;
  #fsync = true;
  #alone = false;
  #waiting: Waiting | undefined;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #turns = new Turns(channels);

  constructor(
    readonly options: SshOptions,
    readonly log: PluginLog,
    signal: AbortSignal,
  ) {
    this.#signal = AbortSignal.any([signal, this.#stop.signal]);
  }
  get place(): string {
    const { host, port = 22 } = this.options;
    return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
  }
  /** What the server said of itself. */
  get banner(): string | undefined {
    return this.#banner;
  }

  /** The connection; a new one when there is none or it is over. @throws PluginError as connectSsh */
  async connect(): Promise<SshConnection> {
    const seen = this.#connection;
    const current = await seen?.catch(() => undefined);
    if (current !== undefined && current.failure === undefined) return current;
    // of several that find it broken the first makes the new one
    if (this.#connection === seen) this.#connection = this.#reconnect();
    return this.#connection ?? this.#reconnect();
  }
  async #reconnect(): Promise<SshConnection> {
    const connection = await connectSsh(this.options, this.#signal);
    this.#banner = connection.serverBanner;
    return connection;
  }

  /** Runs rsync. A call whose connection breaks is made again, for a while: whoever calls asks only for what may be done twice.
   *  @throws PluginError */
  async call(args: readonly string[], o: Call): Promise<Ended & { readonly tries: number }> {
    const signal = AbortSignal.any([o.signal, this.#signal]);
    let since: number | undefined;
    for (let tries = 1; ; tries++) {
      try {
        return { ...(await this.once(args, o)), tries };
      } catch (error) {
        if (!(error instanceof PluginError) || error.code !== 'unavailable') throw error;
        since ??= Date.now();
        const wait = Math.min(longestWait, firstWait * 2 ** (tries - 1)) * (0.5 + Math.random());
        if (Date.now() + wait - since > patience) throw error;
        this.log('debug', `${error.message}; tried again in ${Math.round(wait)} ms`);
        await sleep(wait, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) throw abortError(o.what);
      }
    }
  }

  /** As call, but a connection that breaks is an error. */
  async once(args: readonly string[], o: Call): Promise<Ended> {
    const signal = AbortSignal.any([o.signal, this.#signal]);
    const done = await this.#turns.take(signal, o.what);
    try {
      await o.before?.();
      const ended = await this.#run(args, { ...o, signal });
      if (isLocked(ended)) this.#goAlone();
      else if (ended.code === 0 || o.fine?.(ended)) return ended;
      if (!args.includes('--fsync') || !lacksOption(ended)) throw this.failed(ended, o.what);
      return await this.#withoutFsync(args, { ...o, signal });
    } finally {
      done();
    }
  }

  /** A server whose rsync is older than 3.2.4 does not know it. */
  async #withoutFsync(args: readonly string[], o: Call): Promise<Ended> {
    if (this.#fsync) this.log('warn', `${this.place}: its rsync is too old to write through to the disk; update it to 3.2.4 or newer`);
    this.#fsync = false;
    const ended = await this.#run(args, o);
    if (ended.code === 0 || o.fine?.(ended)) return ended;
    throw this.failed(ended, o.what);
  }

  /** What a run that ended so means. */
  failed(ended: Ended, what: string): PluginError {
    return rsyncError(ended, { place: this.place, what });
  }

  async #run(args: readonly string[], o: Call): Promise<Ended> {
    const connection = await untilAborted(this.connect(), o.signal, o.what);
    const known = this.#fsync ? args : args.filter((arg) => arg !== '--fsync');
    const open = async (command: string): Promise<Remote> => {
      const remote = await this.#open(connection, command);
      if (o.again) this.#wait(connection, command);
      return remote;
    };
    return runRsync(known, { ...o, open: (command) => untilAborted(open(command), o.signal, o.what) });
  }

  /** Starts a command on the server, or takes the one that waits. */
  async #open(connection: SshConnection, command: string): Promise<Remote> {
    const waiting = this.#waiting;
    if (waiting?.command === command && waiting.connection === connection) {
      this.#waiting = undefined;
      const remote = await waiting.remote.catch(() => undefined);
      if (remote !== undefined && !remote.over) return remote;
    }
    return remoteOf(await connection.exec(command));
  }
  #wait(connection: SshConnection, command: string): void {
    if (this.#alone || this.#waiting !== undefined || this.#turns.free < 2) return;
    const remote = connection.exec(command).then(remoteOf);
    remote.catch(() => undefined); // it was only meant to save time
    this.#waiting = { command, connection, remote };
  }
  /** One rsync at a time from now on, and none that waits: rrsync lets in no more. Other appliances are waited for. */
  #goAlone(): void {
    this.#alone = true;
    this.#turns.limit = 1;
    this.rest();
  }
  /** Lets go of what waits for the next call. */
  rest(): void {
    this.#waiting?.remote.then(
      ({ channel }) => channel.destroy(),
      () => undefined,
    );
    this.#waiting = undefined;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.rest();
    const connection = await this.#connection?.catch(() => undefined);
    connection?.close();
  }
}
