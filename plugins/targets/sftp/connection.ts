/** One SSH connection with an sftp channel. It is opened on demand, and again after a break. */
import { pathParts } from '../../shared/paths.js';
import { abortError } from '../../shared/source.js';
import { connectSsh, type SshConnection, type SshOptions } from '../../shared/ssh/connection.js';
import { explain } from './failure.js';
import { Sftp } from './protocol/client.js';

export interface SftpOptions extends SshOptions {
  readonly base?: string;
  readonly encrypt?: boolean;
}

export class Connection {
  #live: Sftp | undefined;
  #connection: SshConnection | undefined;
  #opening: Promise<Sftp> | undefined;
  /** A second channel, for slow requests. */
  #beside: Promise<Sftp | undefined> | undefined;
  #closed = false;
  /** The absolute folder of `base`. Known once the server has named the login's home. */
  #top = '';
  readonly #base: readonly string[];

  constructor(
    readonly options: SftpOptions,
    readonly signal: AbortSignal,
  ) {
    this.#base = pathParts(options.base ?? '');
  }

  /** The first channel; opened anew if the last one broke. @throws PluginError as connectSsh */
  sftp(): Promise<Sftp> {
    if (this.#live !== undefined && this.#live.failure === undefined) return Promise.resolve(this.#live);
    if (this.#closed) return Promise.reject(abortError('the target was closed'));
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(): Promise<Sftp> {
    this.#connection?.close();
    const connection = await connectSsh(this.options, this.signal);
    try {
      const sftp = await Sftp.start(connection);
      if (this.#top === '') this.#top = await this.#findTop(sftp);
      if (this.#closed) throw abortError('the target was closed');
      this.#connection = connection;
      this.#live = sftp;
      this.#beside = undefined;
      return sftp;
    } catch (error) {
      connection.close();
      throw await explain(error, undefined, connection.address);
    }
  }

  /** A second channel of the connection for slow requests: a server handles the requests of one channel one after the other.
   *  Undefined when the server allows none. */
  beside(): Promise<Sftp | undefined> {
    this.#beside ??= this.another();
    return this.#beside;
  }

  /** One more channel of the connection, which the caller must close; undefined when the server allows none. */
  async another(): Promise<Sftp | undefined> {
    const connection = this.#connection;
    return connection && Sftp.start(connection).catch(() => undefined);
  }

  async #findTop(sftp: Sftp): Promise<string> {
    if (this.#base[0] !== '~') return `/${this.#base.join('/')}`;
    const home = String(await sftp.realPath('.'));
    return [home === '/' ? '' : home, ...this.#base.slice(1)].join('/') || '/';
  }

  /** The server's path of `parts` below the base. Valid only after a channel was opened. */
  path(parts: readonly string[]): string {
    return parts.length === 0 ? this.#top : `${this.#top === '/' ? '' : this.#top}/${parts.join('/')}`;
  }

  /** Runs idempotent work. Repeats it once when the connection breaks, as an idle one does at its first request. Turns refusals
   *  into errors of the contract. @throws PluginError */
  async run<T>(parts: readonly string[], work: (sftp: Sftp, path: string) => Promise<T>): Promise<T> {
    for (let tries = 2; ; tries--) {
      const sftp = await this.sftp();
      try {
        return await work(sftp, this.path(parts));
      } catch (error) {
        if (sftp.failure === undefined || tries === 1) throw await explain(error, sftp, this.path(parts));
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#live?.close();
    this.#connection?.close();
  }
}
