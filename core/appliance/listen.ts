/** Listens for HTTP or HTTPS, and closes connections at the end. */
import { createServer as createHttp, type Server as HttpServer, type RequestListener } from 'node:http';
import { createServer as createHttps, Server as HttpsServer } from 'node:https';
import type { PluginLog } from '../contract/index.js';
import { followTls, type TlsContext, type TlsFiles } from './tls.js';

/** Enough for the largest body, an update over a slow line. The API limits other bodies, and Node headers to a minute. */
const uploadMs = 6 * 3_600_000;

type Server = HttpServer | HttpsServer;

/** The running service. */
export interface Service {
  /** http://HOST:PORT, https:// with a certificate */
  readonly address: string;
  /** The one-time code for making the first admin; undefined once there is one. */
  setupCode(): Promise<string | undefined>;
  /** Ends running jobs cleanly, then closes everything else. */
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
  // The API sends 100 Continue itself, so that a rejected request never uploads its body.
  server.on('checkContinue', api);
  server.requestTimeout = uploadMs;
  // Node disconnects a client that sends plain HTTP or fails the TLS handshake; that is no fault of the service, so it is not logged.
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
  const rest = setTimeout(() => server.closeAllConnections(), 1000); // open long polls have been answered by then
  await closed;
  clearTimeout(rest);
}
