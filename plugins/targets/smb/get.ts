import type { ChildProcess } from 'node:child_process';
import { Readable } from 'node:stream';
import { PluginError } from '../../../core/contract/index.js';
import { pastEnd } from '../../shared/paths.js';
import { abortError } from '../../shared/source.js';
import { connectError, isConnectError, transferError } from './failure.js';
import { quote } from './names.js';
import { look, type SharePath, showPath } from './tree.js';

export interface GetOptions {
  readonly signal: AbortSignal;
  readonly offset?: number;
  readonly length?: number;
}

/** smbclient's own limit for an answer while data flows, in seconds: a disk of a NAS may have to spin up. */
export const dataTime = 20;

/** The bytes of a regular file. smbclient begins at the start of the file: what lies before `offset` is read and dropped.
 *  @throws PluginError not_found, invalid */
export async function get(place: SharePath, o: GetOptions): Promise<Readable> {
  const { offset = 0, length = Number.POSITIVE_INFINITY } = o;
  if (!(offset >= 0 && length >= 0)) throw new PluginError('invalid', 'offset and length must not be negative');
  const path = showPath(place.parts);
  if (o.signal.aborted) throw abortError(path);
  const download = new Download(place, o.signal, new Window(offset, offset + length));
  try {
    await download.begun;
  } catch (error) {
    // the server says of many things that it cannot open them: only now, since it takes as long as a login to ask
    if (!o.signal.aborted) await refuseOther(place);
    throw error;
  }
  return download;
}

/** @throws PluginError not_found, invalid, when there is no such file */
async function refuseOther(place: SharePath): Promise<void> {
  const there = await look(place);
  if (there === undefined) throw new PluginError('not_found', `${showPath(place.parts)} is not there`);
  if (there.folder) throw new PluginError('invalid', `${showPath(place.parts)} is a folder, not a file`);
}

/** What of the file is wanted. */
class Window {
  #position = 0;
  constructor(
    readonly start: number,
    readonly end: number,
  ) {}
  get position(): number {
    return this.#position;
  }
  get passed(): boolean {
    return this.#position >= this.end;
  }
  /** What is wrong when the file ends here: that the window begins behind it. */
  wrong(path: string): PluginError | undefined {
    return pastEnd(this.start, this.#position, path);
  }
  /** The part of the next bytes of the file that lies in the window. */
  cut(bytes: Buffer): Buffer {
    const from = this.#position;
    this.#position += bytes.length;
    return bytes.subarray(Math.max(0, this.start - from), Math.max(0, this.end - from));
  }
}

/** What one smbclient reads from the server. The command goes by stdin, since a `;` in a name would end it in an argument.
 *  All but the bytes of the file goes to stderr. */
class Download extends Readable {
  #child: ChildProcess | undefined;
  #said = '';
  #tries = 25;
  #settle: { done(): void; fail(error: Error): void } | undefined;
  /** Settles with the first bytes, with the end of a file that has none, or with why it is not read. */
  readonly begun: Promise<void>;
  #abort = () => this.destroy(abortError(showPath(this.place.parts)));

  constructor(
    readonly place: SharePath,
    readonly signal: AbortSignal,
    readonly window: Window,
  ) {
    super({ highWaterMark: 1 << 20 });
    this.on('error', () => undefined); // an abort before anybody reads must not end the process; reading reports it
    signal.addEventListener('abort', this.#abort, { once: true });
    this.begun = new Promise<void>((done, fail) => {
      this.#settle = { done, fail };
    });
    this.begun.catch(() => undefined); // reading tells it, too
    this.#start();
  }
  /** An smbclient that asks for the file as soon as it is logged in. */
  #start(): void {
    const { session } = this.place;
    const child = session.login.start([session.login.service(session.share)], { timeout: dataTime });
    child.once('error', (cause) => this.destroy(new PluginError('failed', 'smbclient could not be started', { cause })));
    child.once('close', () => this.#closed());
    child.stdout?.on('data', (bytes: Buffer) => this.#take(bytes));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (this.#said.length < 1 << 16) this.#said += text;
    });
    child.stdin?.on('error', () => undefined); // 'close' tells
    child.stdin?.end(`get ${quote(this.place.parts)} -\n`);
    this.#child = child;
  }
  #take(bytes: Buffer): void {
    this.#settle?.done();
    const piece = this.window.cut(bytes);
    if (this.destroyed || this.readableEnded) return;
    const full = piece.length > 0 && !this.push(piece);
    if (this.window.passed) this.#finish();
    else if (full) this.#child?.stdout?.pause();
  }
  #finish(): void {
    this.#settle?.done();
    this.push(null);
    this.#end();
  }
  #closed(): void {
    if (this.destroyed) return;
    const error = this.window.passed
      ? undefined
      : (incomplete(this.#said, this.window.position, this.place) ?? this.window.wrong(showPath(this.place.parts)));
    // while another file takes its place it cannot be opened for a moment
    if (error === undefined) this.#finish();
    else if (error.code !== 'in_use' || this.window.position > 0 || this.#tries-- === 0) this.destroy(error);
    else setTimeout(() => this.#again(), 100);
  }
  #again(): void {
    if (this.destroyed) return;
    this.#said = '';
    this.#start();
  }
  #end(): void {
    this.#child?.kill('SIGKILL');
    this.#child?.stdout?.resume(); // else its end is never seen
  }
  override _read(): void {
    this.#child?.stdout?.resume();
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.signal.removeEventListener('abort', this.#abort);
    this.#end();
    this.#settle?.fail(error ?? abortError(showPath(this.place.parts)));
    done(error);
  }
}

/** smbclient ends with 0 whatever happened to a command from stdin. Only what it says when it is done proves that all was
 *  given: the size that the file had when it was opened. */
function incomplete(said: string, bytes: number, { session, parts }: SharePath): PluginError | undefined {
  const peer = session.login.peer(session.share);
  const done = said.split('\n').map((line) => /^getting file .* of size (\d+) as - \(/s.exec(line)?.[1]);
  if (done.some((size) => size !== undefined && Number(size) === bytes)) return undefined;
  if (isConnectError(said)) return connectError(said, peer);
  return transferError(said, `${showPath(parts)} ended after ${bytes} bytes`, peer);
}
