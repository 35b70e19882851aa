import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

/** Time limit of the server's answer. */
const answerTime = 4_000;

const dialects = [0x0202, 0x0210, 0x0300, 0x0302, 0x0311];
const names: Readonly<Record<number, string>> = {
  514: 'SMB 2.0.2',
  528: 'SMB 2.1',
  768: 'SMB 3.0',
  770: 'SMB 3.0.2',
  785: 'SMB 3.1.1',
};

/** An SMB2 NEGOTIATE request with its NetBIOS length: the offer that a client sends before login. */
function negotiate(): Buffer {
  const header = Buffer.alloc(64);
  header.write('\xfeSMB', 0, 'latin1');
  header.writeUInt16LE(64, 4);
  header.writeUInt16LE(1, 14); // credits
  const body = Buffer.alloc(36 + dialects.length * 2);
  body.writeUInt16LE(36, 0);
  body.writeUInt16LE(dialects.length, 2);
  body.writeUInt16LE(1, 4); // signing is possible
  randomBytes(16).copy(body, 12);
  for (const [i, dialect] of dialects.entries()) body.writeUInt16LE(dialect, 36 + 2 * i);
  const start = Math.ceil((header.length + body.length) / 8) * 8;
  body.writeUInt32LE(start, 28);
  body.writeUInt16LE(2, 32);
  const salt = randomBytes(32).toString('hex');
  // SHA-512 with a salt, for 3.1.1; ciphers AES-128-GCM and -CCM
  const contexts = Buffer.from(`0100260000000000010020000100${salt}00000200060000000000020002000100`, 'hex');
  const message = Buffer.concat([header, body, Buffer.alloc(start - header.length - body.length), contexts]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  return Buffer.concat([length, message]);
}

export type Probed =
  | { readonly kind: 'smb'; readonly dialect: string | undefined }
  /** Another protocol, or the server closed the connection. */
  | { readonly kind: 'other' }
  /** The server accepted the connection and did not answer. */
  | { readonly kind: 'silent' }
  /** No connection. */
  | { readonly kind: 'none' };

function answer(bytes: Buffer): Probed {
  if (bytes.toString('latin1', 4, 8) !== '\xfeSMB') return { kind: 'other' };
  const failed = bytes.length < 76 || bytes.readUInt32LE(12) !== 0;
  return { kind: 'smb', dialect: failed ? undefined : names[bytes.readUInt16LE(72)] };
}

/** Detects the server's SMB dialect without a user name or a secret. Never throws. */
export function probe(host: string, port: number, signal: AbortSignal): Promise<Probed> {
  if (signal.aborted) return Promise.resolve({ kind: 'none' });
  return new Promise((resolve) => {
    let connected = false;
    let bytes = Buffer.alloc(0);
    const socket = connect({ host: host.replace(/^\[(.*)\]$/, '$1'), port });
    const finish = (result: Probed) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      socket.destroy();
      resolve(result);
    };
    const stop = () => finish({ kind: connected ? 'silent' : 'none' });
    const end = () => finish({ kind: connected ? 'other' : 'none' });
    const timer = setTimeout(stop, answerTime);
    signal.addEventListener('abort', stop, { once: true });
    socket.once('connect', () => {
      connected = true;
      socket.write(negotiate());
    });
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length >= 76) finish(answer(bytes));
      else if (bytes.length >= 8 && answer(bytes).kind === 'other') end();
    });
    socket.on('error', end);
    socket.on('close', end);
  });
}
