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
/** Whoever aborts waits for so long at most: the contract says 5 s. */
const retryMs = 4_000;

export interface PutOptions {
  readonly signal: AbortSignal;
  readonly replace: boolean;
}

/** A file in the making. */
interface Draft {
  readonly place: SharePath;
  readonly part: SharePath;
  readonly folder: SharePath;
  readonly made: number;
}

/** Stores `source` as the file `place`, or nothing. smbclient has no command that has the server flush a file: what is
 *  stored has left the server's program, and is on its disk when its operating system next writes back (Samba's
 *  `sync always = yes` does so at once). Whoever calls destroys the source when this fails. @throws PluginError */
export async function put(place: SharePath, source: Readable, o: PutOptions): Promise<{ bytes: number }> {
  const path = showPath(place.parts);
  if (o.signal.aborted) throw abortError(path);
  using upload = new Upload(place);
  const draft = await begin(place, o);
  let time = retryMs;
  try {
    const bytes = await upload.send(draft.part, source, o.signal);
    time = retryMs / 2; // the other half may be gone when the name is not given
    await finishWithin(retryMs / 2, o.signal, path, () => commit(draft, bytes, o));
    return { bytes };
  } catch (error) {
    await settleWithin(time, () => undo(draft));
    throw error;
  }
}

/** All that comes before the source is touched. */
async function begin(place: SharePath, o: PutOptions): Promise<Draft> {
  const starting = prepare(place, o);
  try {
    return await untilAborted(starting, o.signal, showPath(place.parts));
  } catch (error) {
    await settleWithin(retryMs, () => starting.then(undo));
    throw error;
  }
}

/** The name is free, the folder is there, and the part is in it. */
async function prepare(place: SharePath, { replace, signal }: PutOptions): Promise<Draft> {
  const { session, parts } = place;
  let folderIsThere = await refuseTaken(place, replace);
  const folder = { session, parts: parts.slice(0, -1) };
  const part = { session, parts: [...folder.parts, partName()] };
  // another put that fails may remove the folder that this one has just found: try again
  for (let tries = 5; ; tries--) {
    if (signal.aborted) throw abortError(showPath(parts));
    const draft = { place, part, folder, made: folderIsThere ? 0 : await makeFolder(folder) };
    try {
      // a first part, whatever is in it: it keeps the folder, and tells whether anything may be written
      const { status } = await session.run(`put /proc/self/fd/3 ${quote(part.parts)}`);
      if (status === undefined) {
        if (parts.some(endsInDot)) await requireDots(place);
        return draft;
      }
      if (!isAbsent(status) || tries === 0) throw await writeFailed(place, status);
      folderIsThere = false;
      await undo(draft).catch(() => undefined);
    } catch (error) {
      await settleWithin(retryMs, () => undo(draft));
      throw error;
    }
  }
}

/** @returns whether the folder seems to be there: a server says so of a name that is not. @throws PluginError exists */
async function refuseTaken(place: SharePath, replace: boolean): Promise<boolean> {
  const { entry: there, inFolder } = await lookInFolder(place);
  if (there === undefined || (replace && !there.folder)) return inFolder;
  const why = there.folder ? 'is a folder; a file cannot replace it' : 'is already there';
  throw new PluginError('exists', `${showPath(place.parts)} ${why}`);
}

/** Tries whether this server keeps a name that ends in a dot. @throws PluginError invalid */
async function requireDots({ session, parts }: SharePath): Promise<void> {
  const name = `${partName()}.`;
  const trial = { session, parts: [...parts.slice(0, -1), name] };
  await session.run(`mkdir ${quote(trial.parts)}`);
  const kept = (await look(trial))?.name === name;
  await unmakeFolder(trial, 1);
  if (!kept) throw new PluginError('invalid', `${showPath(parts)}: this server does not keep names that end in a dot`);
}

/** An smbclient that writes one file. It logs in while all else is prepared. */
class Upload implements Disposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(readonly place: SharePath) {
    const { session } = place;
    // what follows the line of the command is the file, and not for it to read ahead
    this.#child = session.login.start([session.login.service(session.share)], { byteInput: true, timeout: dataTime });
    this.#ended = end(this.#child, place);
  }

  /** Lets it write what the source gives. @throws PluginError */
  async send(part: SharePath, source: Readable, signal: AbortSignal): Promise<number> {
    const { session, parts } = this.place;
    const dead = this.#ended.then(() => {
      throw unavailable(session.login.peer(session.share), 'smbclient ended too early');
    });
    this.#child.stdin?.write(`put - ${quote(part.parts)}\n`);
    // one that ends by itself before it has all has failed, whatever its source does
    const sent = Promise.race([feed(this.#child, source, this.#ended), dead]);
    const bytes = await untilAborted(sent, signal, showPath(parts));
    this.#child.stdin?.end();
    await untilAborted(this.#ended, signal, showPath(parts));
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL'); // of one that has ended there is nothing to kill
  }
}

/** Waits for its end. It ends with 0 whatever became of a command: what it says when a file is written proves that.
 *  @throws PluginError when it does not say so, or says of anything that it failed */
function end(child: ChildProcess, { session, parts }: SharePath): Promise<void> {
  let said = '';
  const peer = session.login.peer(session.share);
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
  ended.catch(() => undefined); // asked for later, or by nobody
  return ended;
}

/** Gathers what comes while the last is being written. @returns the bytes that the source had */
async function feed(child: ChildProcess, source: Readable, ended: Promise<void>): Promise<number> {
  let bytes = 0;
  let writing: Promise<void> = Promise.resolve();
  for await (const chunks of gatherChunks(source, writeSize)) {
    await writing;
    writing = writeAll(child, chunks).catch(() => ended); // why it did not take them it says itself
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

/** Gives the finished file its name. @throws PluginError */
async function commit({ place, part }: Draft, bytes: number, { replace, signal }: PutOptions): Promise<void> {
  const there = await look(part);
  if (there?.size !== bytes) {
    const text = `${showPath(place.parts)}: the server has ${there?.size ?? 'none'} of ${bytes} bytes; try again`;
    throw new PluginError('damaged', text, { retryable: true });
  }
  if (signal.aborted) throw abortError(showPath(place.parts));
  await unlessInUse(() => rename(part, place, bytes, replace));
}

async function rename(part: SharePath, place: SharePath, bytes: number, replace: boolean): Promise<void> {
  const command = `rename ${quote(part.parts)} ${quote(place.parts)}${replace ? ' -f' : ''}`;
  const { status } = await part.session.run(command, { once: true }).catch(async (error: unknown) => {
    // whether it was done is not known: where the part is tells
    if (await look(part)) return part.session.run(command, { once: true });
    if ((await look(place))?.size === bytes) return { status: undefined };
    throw error;
  });
  if (status === undefined) return;
  // the part could be written: what is denied now is the name, and Windows says so of a file that is open
  const code = replace && status === 'ACCESS_DENIED' ? 'in_use' : undefined;
  throw shareError(status, showPath(place.parts), place.session.login.peer(place.session.share), code);
}

/** Leaves no trace. */
async function undo({ part, folder, made }: Draft): Promise<void> {
  await removeFile(part);
  await unmakeFolder(folder, made);
}
