import { type IncomingMessage, request } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { PluginError, type PluginErrorCode } from '../../../../core/contract/index.js';
import { fields, text } from './json.js';

type Method = 'GET' | 'POST' | 'DELETE';

interface CallOptions {
  readonly body?: unknown;
  /** Request body as a stream, sent instead of `body`. */
  readonly source?: Readable;
  readonly signal?: AbortSignal;
  /** Longest time in ms without a byte; 0 sets no limit. */
  readonly silence?: number;
}

/** HTTP over the engine's unix socket. Own code, because dockerode copies too much to stream archives. */
export interface Client {
  /** The parsed answer; undefined when it is empty or no JSON. @throws PluginError */
  json(method: Method, path: string, options?: CallOptions): Promise<unknown>;
  /** The answer's text. @throws PluginError */
  text(method: Method, path: string, options?: CallOptions): Promise<string>;
  /** The answer's body as a stream. @throws PluginError */
  stream(method: Method, path: string, options?: CallOptions): Promise<IncomingMessage>;
}

const silence = 120_000; // an engine on a busy NAS takes up to a minute to remove a container

const byStatus: Readonly<Record<number, PluginErrorCode>> = {
  400: 'invalid',
  401: 'denied',
  403: 'denied',
  404: 'not_found',
  409: 'conflict',
};
const bySystemCode: Readonly<Record<string, PluginErrorCode>> = { EACCES: 'denied', EPERM: 'denied', ABORT_ERR: 'aborted' };

function transportError(cause: Error, socket: string, signal: AbortSignal | undefined): PluginError {
  if (cause instanceof PluginError) return cause;
  if (signal?.aborted) return new PluginError('aborted', 'The call to Docker was cancelled', { cause });
  const system = 'code' in cause ? text(cause.code) : '';
  const code = bySystemCode[system] ?? 'unavailable';
  const message = `Docker does not answer on ${socket} (${system || cause.message}): start the engine or correct the socket`;
  return new PluginError(code, message, { retryable: code === 'unavailable', cause });
}

async function readAll(answer: IncomingMessage): Promise<string> {
  answer.setEncoding('utf8');
  let all = '';
  for await (const chunk of answer) all += String(chunk);
  return all;
}

function parse(content: string): unknown {
  try {
    return content.trim() === '' ? undefined : JSON.parse(content);
  } catch {
    return undefined; // an error page that is no JSON; the caller uses the status
  }
}

async function refusal(answer: IncomingMessage, path: string): Promise<PluginError> {
  const content = await readAll(answer);
  const message = text(fields(parse(content)).message) || content.trim().slice(0, 500) || `status ${answer.statusCode}`;
  const code = /no space left/i.test(message) ? 'no_space' : (byStatus[answer.statusCode ?? 0] ?? 'failed');
  return new PluginError(code, `Docker refused ${path.split('?')[0]}: ${message}`);
}

function send(socket: string, method: Method, path: string, o: CallOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const body = o.body === undefined ? undefined : JSON.stringify(o.body);
    const headers: Record<string, string> = { host: 'docker' };
    if (body !== undefined)
      Object.assign(headers, { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) });
    if (o.source) headers['content-type'] = 'application/x-tar';
    const call = request({ socketPath: socket, method, path, headers, agent: false, ...(o.signal ? { signal: o.signal } : {}) });
    call.once('error', reject);
    call.once('response', resolve);
    call.setTimeout(o.silence ?? silence, () =>
      call.destroy(new PluginError('stalled', `Docker stopped answering ${path.split('?')[0]}`, { retryable: true })),
    );
    if (o.source)
      pipeline(o.source, call).catch(reject); // pipeline destroys the call on a failure: the engine sees a broken body, not an end
    else call.end(body);
  });
}

/** Makes a client. It opens no connection yet; each call opens its own. */
export function createClient(socket: string): Client {
  const stream = async (method: Method, path: string, o: CallOptions = {}): Promise<IncomingMessage> => {
    const answer = await send(socket, method, path, o).catch((cause: Error) => {
      throw transportError(cause, socket, o.signal);
    });
    if ((answer.statusCode ?? 500) >= 400) throw await refusal(answer, path);
    return answer;
  };
  const all = async (method: Method, path: string, o: CallOptions = {}): Promise<string> => {
    const answer = await stream(method, path, o);
    return readAll(answer).catch((cause: Error) => {
      throw transportError(cause, socket, o.signal);
    });
  };
  return { stream, text: all, json: async (method, path, o) => parse(await all(method, path, o)) };
}
