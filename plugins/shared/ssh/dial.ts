/** The way to a server up to its greeting, before anything is said of who asks. */
import { connect, type Socket } from 'node:net';
import { anySignal, type PluginError } from '../../../core/contract/index.js';
import { abortError } from '../source.js';
import { awayError, networkError, placeOf } from './errors.js';

/** How long a server may take to take a connection, to greet, and to log somebody in: each on its own. */
export const answerTime = 10_000;

type Done = (error?: Error | null) => void;

/** Sends what is written in one turn of the event loop at once. ssh2 writes each packet in three pieces, and without delay
 *  each would go out on its own. (A subclass would not do: connecting sets `write` anew.) */
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

/** A connection to a port. @throws PluginError unavailable, aborted */
export function dial(host: string, port: number, signal: AbortSignal, time = answerTime): Promise<Socket> {
  const place = placeOf(host, port);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortError(place));
    const socket = connect({ host, port, noDelay: true, keepAlive: true });
    const fail = (error: PluginError): void => {
      stop();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(() => fail(networkError(place, Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' }))), time);
    const aborted = (): void => fail(abortError(place));
    const failed = (cause: Error): void => fail(networkError(place, cause));
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

/** The first line of a greeting that begins with SSH-, once it is whole; other lines may come before it. */
export function bannerIn(text: string): string | undefined {
  return /(?:^|\n)(SSH-[^\r\n]*)\r?\n/.exec(text)?.[1];
}

/** Whether an SSH server greets there, within a few seconds. Nothing is sent, and nothing thrown: whoever stays silent is none. */
export async function answersSsh(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  try {
    return (await greeting(host, port, signal)) !== undefined;
  } catch {
    return false;
  }
}

/** So much of what a port says is looked at; a server that greets says it in less. */
const greetingLimit = 8 << 10;
const greetingTime = 3_000;

async function greeting(host: string, port: number, signal: AbortSignal): Promise<string | undefined> {
  const limit = anySignal(signal, AbortSignal.timeout(2 * greetingTime));
  const socket = await dial(host, port, limit, greetingTime);
  try {
    return await new Promise((resolve, reject) => {
      let text = '';
      limit.addEventListener('abort', () => reject(awayError(placeOf(host, port), 'it does not greet')), { once: true });
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
