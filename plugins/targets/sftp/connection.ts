/** The way to the server: one SSH connection with an sftp session, opened when it is needed and again when it broke. */
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
  /** A second session, for what takes long. */
  #beside: Promise<Sftp | undefined> | undefined;
  #closed = false;
  /** The absolute folder that base means; known once the server has been asked for the login's home. */
  #top = '';
  readonly #base: readonly string[];

  constructor(
    readonly options: SftpOptions,
    readonly signal: AbortSignal,
  ) {
    this.#base = pathParts(options.base ?? '');
  }

  /** The session, which stands unless it broke this very moment. @throws PluginError as connectSsh */
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
      throw await explain(error, undefined, connection.place);
    }
  }

  /** A second session of the connection, whose requests hold up nobody: a server does those of one session one by one.
   *  Undefined when the server allows none. */
  beside(): Promise<Sftp | undefined> {
    this.#beside ??= this.another();
    return this.#beside;
  }

  /** One more session of the connection, which whoever asked for it closes; undefined when the server allows none. */
  async another(): Promise<Sftp | undefined> {
    const connection = this.#connection;
    return connection && Sftp.start(connection).catch(() => undefined);
  }

  async #findTop(sftp: Sftp): Promise<string> {
    if (this.#base[0] !== '~') return `/${this.#base.join('/')}`;
    const home = String(await sftp.realPath('.'));
    return [home === '/' ? '' : home, ...this.#base.slice(1)].join('/') || '/';
  }

  /** The server's path of what lies below the base. Only after a session was there. */
  path(parts: readonly string[]): string {
    return parts.length === 0 ? this.#top : `${this.#top === '/' ? '' : this.#top}/${parts.join('/')}`;
  }

  /** Does something that may be done twice: once more when the connection breaks meanwhile, as one that was idle for long
   *  does with the first request. What is refused is said in the contract's words. @throws PluginError */
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
