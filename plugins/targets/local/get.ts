import { constants, type FileHandle, lstat, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { pastEnd } from '../../shared/paths.js';
import { abortError } from '../../shared/source.js';
import { ioError } from './failure.js';
import { openFolder } from './folder.js';

const chunk = 256 << 10;

export interface GetOptions {
  readonly signal: AbortSignal;
  readonly offset?: number;
  readonly length?: number;
}

/** Reads a file. Refuses anything but a regular file: opening a FIFO would hang, and opening a device may act.
 *  @throws PluginError */
export async function get(root: string, parts: readonly string[], o: GetOptions): Promise<Readable> {
  const { offset = 0, length = Number.POSITIVE_INFINITY } = o;
  if (!(offset >= 0 && length >= 0)) throw new PluginError('invalid', 'offset and length must not be negative');
  if (o.signal.aborted) throw abortError(parts.join('/'));
  const { file, size } = await openFile(root, parts);
  const wrong = pastEnd(offset, size, parts.join('/'));
  if (wrong === undefined) return reader(file, parts, { signal: o.signal, offset, length });
  await file.close();
  throw wrong;
}

async function openFile(root: string, parts: readonly string[]): Promise<{ file: FileHandle; size: number }> {
  const path = parts.join('/');
  const name = parts.at(-1);
  if (name === undefined) throw new PluginError('invalid', 'a file needs a name');
  await using folder = await openFolder(root, parts.slice(0, -1));
  if (folder === undefined) throw new PluginError('not_found', `${path} is not there`);
  try {
    // check before open, since opening a device may act, and after, since the file may have been swapped
    if (!(await lstat(folder.at(name))).isFile()) throw new PluginError('invalid', `${path} is not a regular file`);
    const file = await open(folder.at(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = await file.stat();
    if (found.isFile()) return { file, size: found.size };
    await file.close();
  } catch (error) {
    throw ioError(error, path);
  }
  throw new PluginError('invalid', `${path} is not a regular file`);
}

function reader(file: FileHandle, parts: readonly string[], o: Required<GetOptions>): Readable {
  let position = o.offset;
  const end = o.offset + o.length;
  const abort = () => stream.destroy(abortError(parts.join('/')));
  const stream = new Readable({
    highWaterMark: chunk,
    async read() {
      try {
        const size = Math.min(chunk, end - position);
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(size), 0, size, position);
        position += bytesRead;
        this.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
      } catch (error) {
        this.destroy(ioError(error, parts.join('/')));
      }
    },
    destroy(error, done) {
      o.signal.removeEventListener('abort', abort);
      file.close().then(
        () => done(error),
        (cause) => done(error ?? ioError(cause, parts.join('/'))),
      );
    },
  });
  stream.on('error', () => undefined); // without a listener, an abort before the first read would end the process; the read reports it
  o.signal.addEventListener('abort', abort, { once: true });
  return stream;
}
