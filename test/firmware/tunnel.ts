/** Forwards plain TCP to the device's TLS port, for a client that does not know the device's self-signed certificate. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';

/** This cipher of TLS 1.3 is several times as fast as AES on an emulated processor: emulation has no match for the AES instructions. */
const cheapCipher = 'TLS_CHACHA20_POLY1305_SHA256';

export class Tunnel implements AsyncDisposable {
  /** SHA-256 of the certificate that the device sent last, in upper-case hex with colons. */
  fingerprint = '';
  readonly #open = new Set<Socket>();

  private constructor(
    readonly port: number,
    private readonly server: Server,
  ) {}

  static async to(port: number): Promise<Tunnel> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const tunnel = new Tunnel(address.port, server);
    server.on('connection', (near) => tunnel.#join(near, port));
    return tunnel;
  }

  get address(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  #join(near: Socket, port: number): void {
    // The suite compares the fingerprint with the one on the console instead.
    const far: TLSSocket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ciphers: cheapCipher }, () => {
      this.fingerprint = far.getPeerCertificate().fingerprint256;
    });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#open.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const one of this.#open) one.destroy();
    await closed;
  }
}
