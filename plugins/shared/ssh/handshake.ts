/** One try at a connection: ssh2 on our own socket, with our algorithms and login methods. */
import type { Socket } from 'node:net';
import ssh2, { type AnyAuthMethod, type Client, type ConnectConfig, type ParsedKey, type ServerHostKeyAlgorithm } from 'ssh2';
import { PluginError } from '../../../core/contract/index.js';
import { abortError } from '../source.js';
import { answerTime, bannerIn, dial } from './dial.js';
import { awayError, handshakeError, showAddress } from './errors.js';

/** GCM first: processors have instructions for it, four times as fast as the next. No CBC, no SHA-1, no MAC before encryption. */
const algorithms: ConnectConfig['algorithms'] = {
  kex: [
    'curve25519-sha256',
    'curve25519-sha256@libssh.org',
    'ecdh-sha2-nistp256',
    'ecdh-sha2-nistp384',
    'ecdh-sha2-nistp521',
    'diffie-hellman-group-exchange-sha256',
    'diffie-hellman-group16-sha512',
    'diffie-hellman-group18-sha512',
    'diffie-hellman-group14-sha256',
  ],
  cipher: ['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com', 'aes128-ctr', 'aes192-ctr', 'aes256-ctr'],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com'],
  compress: ['none'],
};

/** User name and secrets of a login. */
export interface Login {
  readonly username: string;
  readonly password?: string | undefined;
  readonly key?: ParsedKey | undefined;
}

export interface Try {
  readonly host: string;
  readonly port: number;
  readonly hostKeys: readonly ServerHostKeyAlgorithm[];
  /** Called with the server's host key before anything of the login is sent; false ends the try. */
  accepts(key: Buffer): boolean;
  readonly login: Login;
}

export interface Handshake {
  readonly client: Client;
  readonly socket: Socket;
  readonly banner: string;
}

/** Interval in ms of keepalives to a silent server. */
const keepaliveInterval = 10_000;

/** Connects and logs in. Closes everything again when it fails.
 *  @throws PluginError unavailable, denied, unsupported, aborted; the cause is ssh2's error */
export async function handshake(o: Try, signal: AbortSignal): Promise<Handshake> {
  const address = showAddress(o.host, o.port);
  const socket = await dial(o.host, o.port, signal);
  const client = new ssh2.Client();
  const ways = loginWays(o.login);
  const greeted = greetingOf(socket, client);
  try {
    await ready(client, address, signal, () => client.connect(config(o, socket, ways)));
    return { client, socket, banner: greeted() };
  } catch (cause) {
    socket.destroy();
    throw handshakeError(address, cause, { user: o.login.username, offered: ways.offered() });
  }
}

function config(o: Try, socket: Socket, ways: LoginWays): ConnectConfig {
  return {
    sock: socket,
    username: o.login.username,
    algorithms: { ...algorithms, serverHostKey: [...o.hostKeys] },
    hostVerifier: (key: Buffer) => o.accepts(key),
    authHandler: (left) => ways.next(left), // ssh2 uses the returned value, too; only returning can give false
    readyTimeout: answerTime,
    keepaliveInterval,
    // connection.ts detects a dead connection by silence: with a full pipe, keepalive answers come late
    keepaliveCountMax: 1_000,
  };
}

function ready(client: Client, address: string, signal: AbortSignal, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(abortError(address));
    signal.addEventListener('abort', aborted, { once: true });
    client.once('ready', resolve);
    // ssh2 may emit several errors; the first is the cause. The listener stays, because an unheard error ends the process
    client.on('error', reject);
    client.once('change password', () =>
      reject(new PluginError('denied', `${address}: the password has expired; set a new one on the server`)),
    );
    client.once('close', () => reject(awayError(address, 'the server closed the connection during login; see its log')));
    const forget = (): void => signal.removeEventListener('abort', aborted);
    client.once('ready', forget).once('close', forget);
    if (signal.aborted) aborted();
    else start();
  });
}

/** Reads the server's greeting beside ssh2, which does not expose it. */
function greetingOf(socket: Socket, client: Client): () => string {
  let text = '';
  const listen = (chunk: Buffer): void => {
    text += chunk.toString('latin1');
    if (bannerIn(text) !== undefined || text.length > 8_192) socket.off('data', listen);
  };
  socket.pause(); // else adding a listener would start the flow before ssh2 listens
  socket.on('data', listen);
  client.once('handshake', () => socket.off('data', listen));
  return () => bannerIn(text) ?? 'SSH-2.0';
}

interface LoginWays {
  next(left: readonly string[] | null): AnyAuthMethod | false;
  /** Methods that the server named so far. */
  offered(): readonly string[];
}

/** Login methods, each tried once and only if the server accepts it. A server that requires two names the second after the
 *  first. */
function loginWays({ username, password, key }: Login): LoginWays {
  const ways: AnyAuthMethod[] = [];
  if (key !== undefined) ways.push({ type: 'publickey', username, key });
  if (password !== undefined) {
    ways.push({ type: 'password', username, password });
    ways.push({ type: 'keyboard-interactive', username, prompt: (_n, _i, _l, prompts, finish) => finish(prompts.map(() => password)) });
  }
  if (ways.length === 0) ways.push({ type: 'none', username }); // the server then names its methods
  let offered: readonly string[] = [];
  return {
    next(left) {
      if (left !== null) offered = left;
      const at = ways.findIndex(({ type }) => left === null || left.includes(type));
      return (at >= 0 && ways.splice(at, 1)[0]) || false;
    },
    offered: () => offered,
  };
}
