/** A client that reads nothing before it has sent everything. A service that closes the connection early would reset it, and
 *  the answer would be lost. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { ApiClient } from '../../support/api-client.js';

/** The whole answer, headers included, to `route` (METHOD /path) with a body of `bytes` spaces. */
export async function sentBlindly(service: ApiClient, route: string, bytes: number): Promise<string> {
  const { hostname, port } = new URL(service.address);
  const socket = connect(Number(port), hostname);
  const head = [`${route} HTTP/1.1`, `Host: ${hostname}`, `Cookie: ${service.cookie}`, 'Connection: close'];
  head.push('Accept: application/problem+json', 'Content-Type: application/octet-stream', `Content-Length: ${bytes}`);
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  const block = Buffer.alloc(1 << 20, ' ');
  for (let sent = 0; sent < bytes; sent += block.length)
    if (!socket.write(block.subarray(0, Math.min(block.length, bytes - sent)))) await once(socket, 'drain');
  let text = '';
  for await (const chunk of socket) text += chunk;
  return text;
}
