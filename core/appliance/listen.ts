/** The port: HTTP or HTTPS, and a clean end. */
import { createServer as createHttp, type Server as HttpServer, type RequestListener } from 'node:http';
import { createServer as createHttps, Server as HttpsServer } from 'node:https';
import type { PluginLog } from '../contract/index.js';
import { followTls, type TlsContext, type TlsFiles } from './tls.js';

/** For the longest body, an update over a slow line. Others are given up by the API, and headers by Node after a minute. */
const uploadMs = 6 * 3_600_000;

type Server = HttpServer | HttpsServer;

/** The service as whoever starts it has it. */
export interface Service {
  /** http://HOST:PORT, https:// with a certificate */
  readonly address: string;
  /** The one-time code of the first admin; undefined once there is one. */
  setupCode(): Promise<string | undefined>;
  /** Ends running jobs cleanly, then everything else. */
  close(): Promise<void>;
}

export interface Tls {
  readonly files: TlsFiles;
  readonly context: TlsContext;
}
export interface ListenOptions {
  /** HOST:PORT */
  readonly at: string;
  readonly api: RequestListener;
  readonly tls?: Tls;
  readonly log: PluginLog;
}
export interface Listener {
  readonly address: string;
  close(): Promise<void>;
}

/** @throws Error when the address is taken */
export async function listen({ at, api, tls, log }: ListenOptions): Promise<Listener> {
  const server: Server = tls ? createHttps(tls.context, api) : createHttp(api);
  // The API says itself that it takes a body, so that one which is not wanted is not sent.
  server.on('checkContinue', api);
  server.requestTimeout = uploadMs;
  // A client that speaks plain HTTP, or whose handshake fails, is cut off by Node at once; it is no fault of ours to tell.
  const address = await listening(server, at);
  const unfollow = tls && server instanceof HttpsServer && followTls(tls.files, (context) => server.setSecureContext(context), log);
  return {
    address: `${tls ? 'https' : 'http'}://${address}`,
    close: async () => {
      if (unfollow) unfollow();
      if (server.listening) await stopServer(server);
    },
  };
}

async function listening(server: Server, at: string): Promise<string> {
  const cut = at.lastIndexOf(':');
  const host = at.slice(0, cut);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(Number(at.slice(cut + 1)), host.replace(/^\[|\]$/g, ''), resolve);
  });
  const address = server.address();
  return `${host}:${typeof address === 'object' && address !== null ? address.port : ''}`;
}

async function stopServer(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const rest = setTimeout(() => server.closeAllConnections(), 1000); // held polls have answered by then
  await closed;
  clearTimeout(rest);
}
