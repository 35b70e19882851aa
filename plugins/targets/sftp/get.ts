import { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { pastEnd } from '../../shared/paths.js';
import { abortError, untilAborted } from '../../shared/source.js';
import type { Connection } from './connection.js';
import { explain } from './failure.js';
import type { Sftp } from './protocol/client.js';
import { type Attributes, isRegular, Open } from './protocol/wire.js';
import { ReadAhead } from './transfer/read-ahead.js';

export interface GetOptions {
  readonly signal: AbortSignal;
  readonly offset?: number;
  readonly length?: number;
}

/** Reads a file. Refuses anything but a regular file: opening a FIFO would hang, and opening a device may act.
 *  @throws PluginError */
export async function get(connection: Connection, parts: readonly string[], o: GetOptions): Promise<Readable> {
  const { offset = 0, length = Number.POSITIVE_INFINITY, signal } = o;
  if (!(offset >= 0 && length >= 0)) throw new PluginError('invalid', 'offset and length must not be negative');
  const opening = connection.run(parts, openFile);
  const file = await untilAborted(opening, signal, parts.join('/')).catch((error: unknown) => {
    opening.then(({ sftp, handle }) => sftp.closeHandle(handle)).catch(() => undefined); // it may still be opened
    throw error;
  });
  const wrong = pastEnd(offset, file.size, parts.join('/'));
  if (wrong !== undefined) {
    file.sftp.closeHandle(file.handle).catch(() => undefined);
    throw wrong;
  }
  const to = Math.min(offset + length, file.size);
  return reader(new ReadAhead(file.sftp, file.handle, { from: offset, to }, parts.join('/')), connection.path(parts), signal);
}

async function openFile(sftp: Sftp, path: string): Promise<{ sftp: Sftp; handle: Buffer; size: number }> {
  // check before open, since opening a device may act, and after, since the file may have been replaced
  requireFile(await sftp.lstat(path), path);
  const handle = await sftp.open(path, Open.read);
  try {
    return { sftp, handle, size: requireFile(await sftp.fstat(handle), path) };
  } catch (error) {
    sftp.closeHandle(handle).catch(() => undefined);
    throw error;
  }
}

/** The size of a regular file. */
function requireFile(found: Attributes, path: string): number {
  if (!isRegular(found)) throw new PluginError('invalid', `${path} is not a regular file`);
  if (found.size === undefined) throw new PluginError('unsupported', `${path}: the server does not say how large it is`);
  return found.size;
}

function reader(bytes: ReadAhead, path: string, signal: AbortSignal): Readable {
  const abort = () => stream.destroy(abortError(path));
  const stream = new Readable({
    highWaterMark: 256 << 10,
    async read() {
      try {
        this.push((await bytes.next()) ?? null);
      } catch (error) {
        this.destroy(await explain(error, bytes.sftp, path));
      }
    },
    destroy(error, done) {
      signal.removeEventListener('abort', abort);
      bytes.sftp.closeHandle(bytes.handle).catch(() => undefined); // not awaited: the server may be away
      done(error);
    },
  });
  stream.on('error', () => undefined); // without a listener, an abort before the first read would end the process; the read reports it
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  return stream;
}
