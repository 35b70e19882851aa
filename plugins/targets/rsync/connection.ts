import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal, PluginError, type PluginLog } from '../../../core/contract/index.js';
import { Semaphore } from '../../shared/primitives/semaphore.js';
import { abortError, untilAborted } from '../../shared/source.js';
import { connectSsh, type SshConnection, type SshOptions } from '../../shared/ssh/connection.js';
import { showAddress } from '../../shared/ssh/errors.js';
import { type Ended, type RunOptions, runRsync } from './child.js';
import { isBusy, lacksOption, rsyncError, wasBusy } from './failure.js';
import { PrestartedCommands, type Remote } from './prestarted-commands.js';

/** How long a call is repeated when the connection is broken or the server is busy with another client. */
const retryMs = 40_000;
const firstWait = 250;
const longestWait = 5_000;

/** How long a server may refuse a channel although no other is open: it may not have closed the last one yet. */
const refusalTime = 5_000;

/** Channels for calls. A server allows ten per connection (MaxSessions); the others are for prestarted commands and those that
 *  still end. */
const channels = 6;

export interface Call extends Pick<RunOptions, 'input' | 'enough' | 'limit'> {
  readonly signal: AbortSignal;
  /** The action, for messages. */
  readonly what: string;
  /** A call with the same command line will follow; keep an rsync pre-started on the server. */
  readonly again?: boolean;
  /** Called before each try. */
  readonly before?: (() => Promise<void>) | undefined;
  /** Accepts results other than exit code 0. */
  readonly fine?: (ended: Ended) => boolean;
}

/** Runs rsync with one server over one SSH connection, which is reopened when it breaks. */
export class Connection {
  #connection: Promise<SshConnection> | undefined;
  #banner: string | undefined;
  #fsync = true;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #channels = new Semaphore(channels);
  readonly #waiting = new PrestartedCommands();

  constructor(
    readonly options: SshOptions,
    readonly log: PluginLog,
    signal: AbortSignal,
  ) {
    this.#signal = anySignal(signal, this.#stop.signal);
  }
  /** Aborted when the target is closed. */
  get signal(): AbortSignal {
    return this.#signal;
  }
  get address(): string {
    const { host, port = 22 } = this.options;
    return showAddress(host, port);
  }
  /** The server's SSH banner. */
  get banner(): string | undefined {
    return this.#banner;
  }

  /** The connection; opened anew when there is none or it broke. @throws PluginError as connectSsh */
  async connect(): Promise<SshConnection> {
    const seen = this.#connection;
    const current = await seen?.catch(() => undefined);
    if (current !== undefined && current.failure === undefined) return current;
    // of several calls that find it broken the first reconnects
    if (this.#connection === seen) this.#connection = this.#reconnect();
    return this.#connection ?? this.#reconnect();
  }
  async #reconnect(): Promise<SshConnection> {
    const connection = await connectSsh(this.options, this.#signal);
    this.#banner = connection.serverBanner;
    return connection;
  }

  /** Runs rsync, and again for a while when the connection breaks, so that only idempotent calls are allowed.
   *  @throws PluginError */
  async call(args: readonly string[], o: Call): Promise<Ended & { readonly tries: number }> {
    const signal = anySignal(o.signal, this.#signal);
    let since: number | undefined;
    for (let tries = 1; ; tries++) {
      try {
        return { ...(await this.once(args, o)), tries };
      } catch (error) {
        if (!(error instanceof PluginError) || error.code !== 'unavailable' || wasBusy(error)) throw error;
        since ??= Date.now();
        const wait = Math.min(longestWait, firstWait * 2 ** (tries - 1)) * (0.5 + Math.random());
        if (Date.now() + wait - since > retryMs) throw error;
        this.log('debug', `${error.message}; tried again in ${Math.round(wait)} ms`);
        await pause(wait, signal, o.what);
      }
    }
  }

  /** As call, but throws when the connection breaks. */
  async once(args: readonly string[], o: Call): Promise<Ended> {
    const signal = anySignal(o.signal, this.#signal);
    const started = Date.now();
    for (;;) {
      const known = this.#fsync ? args : args.filter((arg) => arg !== '--fsync');
      const ended = await this.#onChannel(known, { ...o, signal }, started);
      if (ended?.code === 0 || (ended !== undefined && o.fine?.(ended))) return ended;
      if (ended !== undefined && known.includes('--fsync') && lacksOption(ended)) {
        this.#forgoFsync();
        continue;
      }
      if (ended !== undefined && !(isBusy(ended) && Date.now() - started < retryMs)) throw this.failed(ended, o.what);
      this.#beAlone();
      await pause(50 + Math.random() * 200, signal, o.what);
    }
  }
  /** An rsync before 3.2.4 does not know --fsync. */
  #forgoFsync(): void {
    if (this.#fsync) this.log('warn', `${this.address}: its rsync is too old to write through to the disk; update it to 3.2.4 or newer`);
    this.#fsync = false;
  }
  /** Falls back to one channel: rrsync without -no-lock serves one rsync at a time, and some servers allow one channel only. */
  #beAlone(): void {
    this.#channels.limit = 1;
    this.#waiting.close();
  }
  /** The error of a failed run. */
  failed(ended: Ended, what: string): PluginError {
    return rsyncError(ended, { address: this.address, what });
  }

  /** Undefined when the server refuses another channel now. */
  async #onChannel(args: readonly string[], o: Call, started: number): Promise<Ended | undefined> {
    const done = await this.#channels.take(o.signal, o.what);
    try {
      await o.before?.();
      return await this.#run(args, o);
    } catch (error) {
      const refused = error instanceof PluginError && error.code === 'unsupported' && /open failure/i.test(error.message);
      if (!refused || Date.now() - started > refusalTime) throw error;
      return undefined;
    } finally {
      done();
    }
  }
  async #run(args: readonly string[], o: Call): Promise<Ended> {
    const connection = await untilAborted(this.connect(), o.signal, o.what);
    const open = async (command: string): Promise<Remote> => {
      const remote = await this.#waiting.take(connection, command);
      if (o.again && this.#channels.limit > 1) this.#waiting.start(connection, command);
      return remote;
    };
    return runRsync(args, { ...o, open: (command) => untilAborted(open(command), o.signal, o.what) });
  }

  /** Ends prestarted commands: no call will follow soon. */
  rest(): void {
    this.#waiting.rest();
  }
  async close(): Promise<void> {
    this.#stop.abort();
    this.#waiting.close();
    const connection = await this.#connection?.catch(() => undefined);
    connection?.close();
  }
}

/** @throws PluginError aborted */
async function pause(ms: number, signal: AbortSignal, what: string): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
  if (signal.aborted) throw abortError(what);
}
