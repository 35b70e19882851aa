import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { partName } from '../../shared/paths.js';
import { finishWithin, settleWithin } from '../../shared/primitives/deadline.js';
import { abortError, gatherChunks, untilAborted } from '../../shared/source.js';
import { connectError, isAbsent, isConnectError, shareError, statusIn, transferError, unavailable } from './failure.js';
import { dataTime } from './get.js';
import { endsInDot, quote } from './names.js';
import { look, lookInFolder, makeFolder, removeFile, type SharePath, showPath, unlessInUse, unmakeFolder, writeFailed } from './tree.js';

const writeSize = 1 << 20;
/** Time limit after an abort, within the contract's 5 s. */
const retryMs = 4_000;

export interface PutOptions {
  readonly signal: AbortSignal;
  readonly replace: boolean;
}

/** An upload: the file `part` in `folder`, which gets the name `location` at the end. */
interface Upload {
  readonly location: SharePath;
  readonly part: SharePath;
  readonly folder: SharePath;
  readonly made: number;
}

/** Stores `source` as the file `location`, or nothing. smbclient cannot flush a file on the server: the data is in the server's
 *  operating system and reaches the disk at its next write-back (with Samba's `sync always = yes` at once). On failure the caller
 *  must destroy the source. @throws PluginError */
export async function put(location: SharePath, source: Readable, o: PutOptions): Promise<{ bytes: number }> {
  const path = showPath(location.parts);
  if (o.signal.aborted) throw abortError(path);
  using sender = new Sender(location);
  const upload = await begin(location, o);
  let time = retryMs;
  try {
    const bytes = await sender.send(upload.part, source, o.signal);
    time = retryMs / 2; // the commit may take the other half
    await finishWithin(retryMs / 2, o.signal, path, () => commit(upload, bytes, o));
    return { bytes };
  } catch (error) {
    await settleWithin(time, () => undo(upload));
    throw error;
  }
}

/** Prepares the upload before it touches the source. */
async function begin(location: SharePath, o: PutOptions): Promise<Upload> {
  const starting = prepare(location, o);
  try {
    return await untilAborted(starting, o.signal, showPath(location.parts));
  } catch (error) {
    await settleWithin(retryMs, () => starting.then(undo));
    throw error;
  }
}

/** Checks that the name is free, makes the folder and, in it, the upload. */
async function prepare(location: SharePath, { replace, signal }: PutOptions): Promise<Upload> {
  const { connection, parts } = location;
  let folderIsThere = await refuseTaken(location, replace);
  const folder = { connection, parts: parts.slice(0, -1) };
  const part = { connection, parts: [...folder.parts, partName()] };
  // retry: another put that fails may remove the folder that this one just found
  for (let tries = 5; ; tries--) {
    if (signal.aborted) throw abortError(showPath(parts));
    const upload = { location, part, folder, made: folderIsThere ? 0 : await makeFolder(folder) };
    try {
      // upload any file first: it keeps the folder from being removed, and shows whether the share is writable
      const { status } = await connection.run(`put /proc/self/fd/3 ${quote(part.parts)}`);
      if (status === undefined) {
        if (parts.some(endsInDot)) await requireDots(location);
        return upload;
      }
      if (!isAbsent(status) || tries === 0) throw await writeFailed(location, status);
      folderIsThere = false;
      await undo(upload).catch(() => undefined);
    } catch (error) {
      await settleWithin(retryMs, () => undo(upload));
      throw error;
    }
  }
}

/** @returns whether the folder seems to exist, by the server's status for the missing name. @throws PluginError exists */
async function refuseTaken(location: SharePath, replace: boolean): Promise<boolean> {
  const { entry: there, inFolder } = await lookInFolder(location);
  if (there === undefined || (replace && !there.folder)) return inFolder;
  const why = there.folder ? 'is a folder; a file cannot replace it' : 'is already there';
  throw new PluginError('exists', `${showPath(location.parts)} ${why}`);
}

/** Tests whether the server stores a name that ends in a dot. @throws PluginError invalid */
async function requireDots({ connection, parts }: SharePath): Promise<void> {
  const name = `${partName()}.`;
  const trial = { connection, parts: [...parts.slice(0, -1), name] };
  await connection.run(`mkdir ${quote(trial.parts)}`);
  const kept = (await look(trial))?.name === name;
  await unmakeFolder(trial, 1);
  if (!kept) throw new PluginError('invalid', `${showPath(parts)}: this server does not keep names that end in a dot`);
}

/** Writes one file with an smbclient, which logs in while the put prepares. */
class Sender implements Disposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(readonly location: SharePath) {
    const { connection } = location;
    // the file follows the command's line, so smbclient must not read ahead
    this.#child = connection.login.start([connection.login.service(connection.share)], { byteInput: true, timeout: dataTime });
    this.#ended = end(this.#child, location);
  }

  /** Sends the source. @throws PluginError */
  async send(part: SharePath, source: Readable, signal: AbortSignal): Promise<number> {
    const { connection, parts } = this.location;
    const dead = this.#ended.then(() => {
      throw unavailable(connection.login.peer(connection.share), 'smbclient ended too early');
    });
    this.#child.stdin?.write(`put - ${quote(part.parts)}\n`);
    // an smbclient that exits early has failed, whatever the source does
    const sent = Promise.race([feed(this.#child, source, this.#ended), dead]);
    const bytes = await untilAborted(sent, signal, showPath(parts));
    this.#child.stdin?.end();
    await untilAborted(this.#ended, signal, showPath(parts));
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL'); // does nothing if it has exited
  }
}

/** Waits for smbclient's exit. It exits with 0 even if a command failed: only its message that the file is written proves success.
 *  @throws PluginError when that message is missing, or any command failed */
function end(child: ChildProcess, { connection, parts }: SharePath): Promise<void> {
  let said = '';
  const peer = connection.login.peer(connection.share);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      if (said.length < 1 << 16) said += text;
    });
  }
  child.stdin?.on('error', () => undefined);
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => reject(new PluginError('failed', 'smbclient could not be started', { cause })));
    child.once('close', () => {
      const written = said.split('\n').some((line) => line.startsWith('putting file - as '));
      if (written && statusIn(said) === undefined) resolve();
      else reject(isConnectError(said) ? connectError(said, peer) : transferError(said, showPath(parts), peer));
    });
  });
  ended.catch(() => undefined); // awaited later, or never
  return ended;
}

/** Gathers chunks while the last batch is written. @returns the bytes of the source */
async function feed(child: ChildProcess, source: Readable, ended: Promise<void>): Promise<number> {
  let bytes = 0;
  let writing: Promise<void> = Promise.resolve();
  for await (const chunks of gatherChunks(source, writeSize)) {
    await writing;
    writing = writeAll(child, chunks).catch(() => ended); // smbclient's own message says why
    writing.catch(() => undefined);
    bytes += chunks.reduce((sum, { length }) => sum + length, 0);
  }
  await writing;
  return bytes;
}

function writeAll(child: ChildProcess, chunks: readonly Uint8Array[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const { stdin } = child;
    if (stdin === null || stdin.destroyed) return reject(new Error('closed'));
    stdin.cork();
    for (const [i, chunk] of chunks.entries()) {
      if (i < chunks.length - 1) stdin.write(chunk);
      else stdin.write(chunk, (error) => (error ? reject(error) : resolve()));
    }
    stdin.uncork();
  });
}

/** Renames the upload to its final name. @throws PluginError */
async function commit({ location, part }: Upload, bytes: number, { replace, signal }: PutOptions): Promise<void> {
  const there = await look(part);
  if (there?.size !== bytes) {
    const text = `${showPath(location.parts)}: the server has ${there?.size ?? 'none'} of ${bytes} bytes; try again`;
    throw new PluginError('damaged', text, { retryable: true });
  }
  if (signal.aborted) throw abortError(showPath(location.parts));
  await unlessInUse(() => rename(part, location, bytes, replace));
}

async function rename(part: SharePath, location: SharePath, bytes: number, replace: boolean): Promise<void> {
  const command = `rename ${quote(part.parts)} ${quote(location.parts)}${replace ? ' -f' : ''}`;
  const { status } = await part.connection.run(command, { once: true }).catch(async (error: unknown) => {
    // unknown whether the rename worked: the upload's presence tells
    if (await look(part)) return part.connection.run(command, { once: true });
    if ((await look(location))?.size === bytes) return { status: undefined };
    throw error;
  });
  if (status === undefined) return;
  // the upload was writable, so the name is denied: Windows says this of an open file
  const code = replace && status === 'ACCESS_DENIED' ? 'in_use' : undefined;
  throw shareError(status, showPath(location.parts), location.connection.login.peer(location.connection.share), code);
}

/** Removes the upload and the folders made for it. */
async function undo({ part, folder, made }: Upload): Promise<void> {
  await removeFile(part);
  await unmakeFolder(folder, made);
}
