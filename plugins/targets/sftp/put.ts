import type { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { finishWithin, settleWithin } from '../../shared/primitives/deadline.js';
import { abortError, sourceChunks, untilAborted } from '../../shared/source.js';
import type { Connection } from './connection.js';
import { explain } from './failure.js';
import type { OpenFile, Sftp } from './protocol/client.js';
import { Open } from './protocol/wire.js';
import { ContentMac } from './transfer/content-mac.js';
import { ReadAhead } from './transfer/read-ahead.js';
import { Upload } from './transfer/upload.js';
import { syncFile, Writer } from './transfer/writer.js';

/** Time limits after an abort, which must settle within 5 s even when the server no longer answers: first for the rename, then for
 *  removing the upload. */
const nameTime = 1_500;
const undoTime = 3_000;

export interface PutOptions {
  readonly signal: AbortSignal;
  readonly replace: boolean;
}

/** Stores `source` as the file that `parts` name, or nothing. On failure the caller must destroy the source, which also ends the
 *  loop that still reads it. @throws PluginError */
export async function put(connection: Connection, parts: readonly string[], source: Readable, o: PutOptions): Promise<{ bytes: number }> {
  const what = parts.join('/');
  if (o.signal.aborted) throw abortError(what);
  const upload = new Upload(connection, parts, o.replace);
  const opening = upload.open();
  let writer: Writer | undefined;
  try {
    const file = await untilAborted(opening, o.signal, what);
    writer = new Writer(connection, upload.part, file, o.signal);
    await untilAborted(copy(source, writer), o.signal, what);
    await untilAborted(finish(writer, what), o.signal, what);
    await commit(upload, writer, o.signal);
    return { bytes: writer.bytes };
  } catch (error) {
    const told = await explain(error, writer?.file.sftp, upload.folder);
    if (writer !== undefined) writer.stop();
    else opening.then(({ sftp, handle }) => sftp.closeHandle(handle)).catch(() => undefined); // it may still be opened
    await takeBack(upload, opening);
    throw told;
  }
}

async function copy(source: Readable, writer: Writer): Promise<void> {
  for await (const chunk of sourceChunks(source)) await writer.write(chunk);
  await writer.drain();
}

/** Syncs, checks and closes the file before it gets its name. */
async function finish(writer: Writer, what: string): Promise<void> {
  await writer.run(({ sftp, handle }) => syncFile(sftp, handle));
  const { size } = await writer.run(({ sftp, handle }) => sftp.fstat(handle));
  if (size !== undefined && size !== writer.bytes) throw damaged(what, `the server has ${size} bytes of ${writer.bytes}`);
  await writer.close();
  // a server that crashed may have lost confirmed writes, which read as zeros: compare the content's MAC
  if (writer.resumed === 0) return;
  const given = writer.proof.tag();
  if ((await writer.run(({ sftp }) => readTag(sftp, writer))) !== given)
    throw damaged(what, 'after the connection broke the server has other bytes than it was given');
}

const damaged = (what: string, why: string): PluginError => new PluginError('damaged', `${what}: ${why}; try again`, { retryable: true });

async function readTag(sftp: Sftp, { path, bytes, proof }: Writer): Promise<string> {
  const handle = await sftp.open(path, Open.read);
  try {
    const stored = new ContentMac(proof.key);
    const ahead = new ReadAhead(sftp, handle, { from: 0, to: bytes }, path);
    for (let some = await ahead.next(); some !== undefined; some = await ahead.next()) stored.update(some);
    return stored.tag();
  } finally {
    sftp.closeHandle(handle).catch(() => undefined);
  }
}

/** Renames the upload to its final name. Can be repeated when the connection breaks in between. */
async function commit(upload: Upload, writer: Writer, signal: AbortSignal): Promise<void> {
  let again = false;
  await finishWithin(nameTime, signal, upload.target, () =>
    writer.run(async ({ sftp }) => {
      const before = again;
      again = true;
      await upload.commit(sftp, writer.bytes, before);
    }),
  );
}

/** Removes the upload. If the server does not answer in time, it stays as unfinished. */
async function takeBack(upload: Upload, opening: Promise<OpenFile>): Promise<void> {
  const undo = () => upload.undo();
  await settleWithin(undoTime, () => opening.then(undo, undo));
}
