/** A logged-in SSH connection to a server with a pinned host key, for the plugins that use SSH. */
import type { Client, ClientChannel, ServerHostKeyAlgorithm } from 'ssh2';
import { PluginError } from '../../../core/contract/index.js';
import { awayError, lacksHostKey, showAddress } from './errors.js';
import { type Handshake, handshake, type Login, type Try } from './handshake.js';
import { fingerprintOf, hostKeyKinds, kindOf, readPrivateKey, sameFingerprint } from './key.js';

export { answersSsh } from './dial.js';

export interface SshOptions {
  readonly host: string;
  /** Default 22. */
  readonly port?: number;
  readonly username: string;
  /** For the methods `password` and `keyboard-interactive`. */
  readonly password?: string;
  /** A private key in ssh-keygen's format. */
  readonly privateKey?: string;
  readonly passphrase?: string;
  /** The fingerprint of the server's host key, as `ssh-keygen -l` prints it: "SHA256:...". */
  readonly hostKey?: string;
}

export interface SshConnection {
  /** The server's greeting: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3". */
  readonly serverBanner: string;
  /** "host:port", for messages. */
  readonly address: string;
  /** Why the connection ended; undefined while it is open. */
  readonly failure: PluginError | undefined;
  /** Resolves with the reason when the connection ends: unavailable and retryable, also after close(). */
  readonly closed: Promise<PluginError>;
  /** Runs a command through the login's shell. Its streams also end when the connection breaks; only `exit` means a real end.
   *  @throws PluginError unavailable, unsupported (the server refuses) */
  exec(command: string): Promise<ClientChannel>;
  /** Starts a subsystem, such as "sftp". @throws PluginError unavailable, unsupported (the server has no such subsystem) */
  subsystem(name: string): Promise<ClientChannel>;
  /** Disconnects; pending calls fail. */
  close(): void;
}

/** Connects and logs in. Sends nothing of the login before the server has proven the pinned host key.
 *  @throws PluginError unavailable (retryable), denied, untrusted (another host key, or none is pinned), invalid (the key),
 *    unsupported (no common algorithm), aborted */
export async function connectSsh(options: SshOptions, signal: AbortSignal): Promise<SshConnection> {
  const address = showAddress(bare(options.host), options.port ?? 22);
  if (options.hostKey === undefined) {
    const fix = "pin it at first contact, or set options.hostKey to what `ssh-keygen -lf` prints for a key in the server's /etc/ssh";
    throw new PluginError('untrusted', `${address}: the server's host key is not known yet; ${fix}`);
  }
  return new Connection(address, await checkKey(options, options.hostKey, signal));
}

/** The fingerprint of the server's host key, for trust on first use. Tries no login.
 *  @throws PluginError unavailable, unsupported, aborted */
export async function hostKeyOf(host: string, port: number, signal: AbortSignal): Promise<string> {
  const seen = await showKey({ host: bare(host), port, login: { username: 'nobody' } }, hostKeyKinds.flat(), () => false, signal);
  if (seen.key === undefined) throw seen.error ?? awayError(showAddress(bare(host), port), 'the server shows no host key');
  return fingerprintOf(seen.key);
}

/** The address without the brackets that an IPv6 address has in text. */
const bare = (host: string): string => host.replace(/^\[(.*)\]$/, '$1');

interface Shown {
  readonly key?: Buffer;
  readonly done?: Handshake;
  readonly error?: unknown;
}

/** One try, and the host key that the server showed, whether the login worked or not. */
async function showKey(
  to: Pick<Try, 'host' | 'port' | 'login'>,
  hostKeys: readonly ServerHostKeyAlgorithm[],
  accepts: (key: Buffer) => boolean,
  signal: AbortSignal,
): Promise<Shown> {
  let key: Buffer | undefined;
  const look = (seen: Buffer): boolean => {
    key = Buffer.from(seen);
    return accepts(key);
  };
  const result = await handshake({ ...to, hostKeys, accepts: look }, signal).then(
    (done) => ({ done }),
    (error: unknown) => ({ error }),
  );
  return key === undefined ? result : { key, ...result };
}

/** Connects to a server with the pinned key. A server that shows another key may have the pinned one too, so each kind of key is
 *  asked for before the key counts as changed. */
async function checkKey(options: SshOptions, pin: string, signal: AbortSignal): Promise<Handshake> {
  const key = options.privateKey === undefined ? undefined : readPrivateKey(options.privateKey, options.passphrase);
  const login: Login = { username: options.username, password: options.password, key };
  const to = { host: bare(options.host), port: options.port ?? 22, login };
  let kinds = hostKeyKinds;
  let first: string | undefined;
  while (kinds.length > 0) {
    const seen = await showKey(to, kinds.flat(), (other) => sameFingerprint(fingerprintOf(other), pin), signal);
    if (seen.done !== undefined) return seen.done;
    if (seen.key === undefined) {
      if (first === undefined || !lacksHostKey(rootCause(seen.error))) throw seen.error;
      break;
    }
    if (sameFingerprint(fingerprintOf(seen.key), pin)) throw seen.error; // right server, failed login
    first ??= fingerprintOf(seen.key);
    const tried = kindOf(seen.key);
    kinds = tried === undefined ? [] : kinds.filter((kind) => kind !== tried);
  }
  throw changedKey(showAddress(to.host, to.port), pin, first ?? 'none');
}

const rootCause = (error: unknown): unknown => (error instanceof PluginError && error.cause !== undefined ? error.cause : error);

function changedKey(address: string, pin: string, shown: string): PluginError {
  const fix = `if the server was set up anew, confirm it with PUT options.hostKey = ${shown}; if not, another machine answers instead of it: check the network`;
  return new PluginError('untrusted', `${address}: the server shows host key ${shown} instead of ${pin}; ${fix}`);
}

/** Checks in a row without a byte before the server counts as gone, though keepalives ask it every 10 s. Checks are counted, not
 *  seconds, because a machine that slept must give the server time to answer. */
const silentLooks = 15;
const lookEvery = 2_000;

class Connection implements SshConnection {
  readonly serverBanner: string;
  readonly closed: Promise<PluginError>;
  failure: PluginError | undefined;
  readonly #client: Client;

  constructor(
    readonly address: string,
    { client, socket, banner }: Handshake,
  ) {
    this.serverBanner = banner;
    this.#client = client;
    this.closed = new Promise((resolve) => {
      const over = (why: string, cause?: unknown): void => {
        this.failure ??= awayError(address, why, cause);
        clearInterval(watch);
        resolve(this.failure);
      };
      const fail = (why: string, cause?: unknown): void => {
        over(why, cause);
        socket.destroy(); // ssh2 would only half-close it
      };
      const watch = watchSilence(
        () => socket.bytesRead,
        () => fail('the server has not answered for 30 s'),
      );
      client.on('error', (cause) => fail(`the connection broke: ${cause.message}`, cause));
      client.on('end', () => fail('the server closed the connection'));
      client.on('close', () => over('the connection was closed'));
    });
  }

  exec(command: string): Promise<ClientChannel> {
    return this.#channel('the command', (done) => this.#client.exec(command, done));
  }

  subsystem(name: string): Promise<ClientChannel> {
    return this.#channel(`the subsystem ${name}`, (done) => this.#client.subsys(name, done));
  }

  close(): void {
    this.failure ??= awayError(this.address, 'the connection was closed');
    this.#client.end();
    // a server that is gone never answers the disconnect
    setTimeout(() => this.#client.destroy(), 1_000).unref();
  }

  async #channel(what: string, open: (done: (error: Error | undefined, channel: ClientChannel) => void) => void): Promise<ClientChannel> {
    if (this.failure !== undefined) throw this.failure;
    const opened = new Promise<ClientChannel>((resolve, reject) => {
      const settle = (error: Error | undefined, channel: ClientChannel): void => {
        if (error === undefined || error === null) resolve(channel);
        else
          reject(new PluginError('unsupported', `${this.address}: the server does not start ${what}: ${error.message}`, { cause: error }));
      };
      try {
        open(settle);
      } catch (cause) {
        reject(awayError(this.address, 'the connection is closed', cause)); // ssh2 throws when the socket is no longer writable
      }
    });
    opened.catch(() => undefined);
    const lost = this.closed.then((failure) => Promise.reject(failure));
    lost.catch(() => undefined);
    return Promise.race([opened, lost]).catch((error: unknown) => Promise.reject(this.failure ?? error));
  }
}

function watchSilence(received: () => number, silent: () => void): NodeJS.Timeout {
  let last = -1;
  let looks = 0;
  const timer = setInterval(() => {
    const now = received();
    looks = now === last ? looks + 1 : 0;
    last = now;
    if (looks === silentLooks) silent();
  }, lookEvery);
  return timer.unref();
}
