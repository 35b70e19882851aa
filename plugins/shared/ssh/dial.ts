/** The TCP connection to a server up to its greeting, before any login. */
import { connect, type Socket } from 'node:net';
import { anySignal, type PluginError } from '../../../core/contract/index.js';
import { abortError } from '../source.js';
import { awayError, networkError, showAddress } from './errors.js';

/** Time limit in ms for each of: connecting, the greeting, the login. */
export const answerTime = 10_000;

type Done = (error?: Error | null) => void;

/** Corks the socket until the next tick, so that writes of one turn go out together: ssh2 writes each packet in three pieces, and
 *  with TCP_NODELAY each would be a segment. (No subclass: connecting replaces `write`.) */
function gatherWrites(socket: Socket): void {
  const write = socket.write.bind(socket);
  let gathering = false;
  socket.write = (bytes: Uint8Array | string, encoding?: BufferEncoding | Done, done?: Done) => {
    if (!gathering) {
      gathering = true;
      socket.cork();
      process.nextTick(() => {
        gathering = false;
        socket.uncork();
      });
    }
    return typeof encoding === 'string' ? write(bytes, encoding, done) : write(bytes, encoding ?? done);
  };
}

/** Opens a TCP connection. @throws PluginError unavailable, aborted */
export function dial(host: string, port: number, signal: AbortSignal, time = answerTime): Promise<Socket> {
  const address = showAddress(host, port);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortError(address));
    const socket = connect({ host, port, noDelay: true, keepAlive: true });
    const fail = (error: PluginError): void => {
      stop();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(networkError(address, Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' }))), time);
    const aborted = (): void => fail(abortError(address));
    const failed = (cause: Error): void => fail(networkError(address, cause));
    const stop = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
      socket.off('error', failed);
    };
    signal.addEventListener('abort', aborted, { once: true });
    socket.once('error', failed).once('connect', () => {
      stop();
      gatherWrites(socket);
      resolve(socket);
    });
  });
}

/** The line of a greeting that begins with SSH-, once it is complete; other lines may precede it. */
export function bannerIn(text: string): string | undefined {
  return /(?:^|\n)(SSH-[^\r\n]*)\r?\n/.exec(text)?.[1];
}

/** Whether an SSH server greets on the port within a few seconds. Sends nothing and throws nothing; silence means no. */
export async function answersSsh(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  try {
    return (await greeting(host, port, signal)) !== undefined;
  } catch {
    return false;
  }
}

/** Bytes of a greeting to read; SSH servers need fewer. */
const greetingLimit = 8 << 10;
const greetingTime = 3_000;

async function greeting(host: string, port: number, signal: AbortSignal): Promise<string | undefined> {
  const limit = anySignal(signal, AbortSignal.timeout(2 * greetingTime));
  const socket = await dial(host, port, limit, greetingTime);
  try {
    return await new Promise((resolve, reject) => {
      let text = '';
      limit.addEventListener('abort', () => reject(awayError(showAddress(host, port), 'it does not greet')), { once: true });
      socket.setEncoding('latin1').on('data', (chunk: string) => {
        text += chunk;
        const banner = bannerIn(text);
        if (banner !== undefined || text.length > greetingLimit) resolve(banner);
      });
      socket.once('close', () => resolve(undefined)).on('error', () => undefined);
    });
  } finally {
    socket.destroy();
  }
}
