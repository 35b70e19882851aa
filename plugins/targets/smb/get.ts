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

/** smbclient's own limit for an answer during a transfer, in seconds: a NAS may have to spin up a disk. */
export const dataTime = 20;

/** Reads a regular file. smbclient starts at the beginning of the file: bytes before `offset` are read and dropped.
 *  @throws PluginError not_found, invalid */
export async function get(location: SharePath, o: GetOptions): Promise<Readable> {
  const { offset = 0, length = Number.POSITIVE_INFINITY } = o;
  if (!(offset >= 0 && length >= 0)) throw new PluginError('invalid', 'offset and length must not be negative');
  const path = showPath(location.parts);
  if (o.signal.aborted) throw abortError(path);
  const download = new Download(location, o.signal, new Window(offset, offset + length));
  try {
    await download.begun;
  } catch (error) {
    // the server says of many entries only that they cannot be opened. Look up the reason only now, because that takes as long as a
    // login
    if (!o.signal.aborted) await refuseOther(location);
    throw error;
  }
  return download;
}

/** @throws PluginError not_found, invalid, when there is no such file */
async function refuseOther(location: SharePath): Promise<void> {
  const there = await look(location);
  if (there === undefined) throw new PluginError('not_found', `${showPath(location.parts)} is not there`);
  if (there.folder) throw new PluginError('invalid', `${showPath(location.parts)} is a folder, not a file`);
}

/** The wanted range of the file. */
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
  /** The error if the file ends here, before the range begins. */
  wrong(path: string): PluginError | undefined {
    return pastEnd(this.start, this.#position, path);
  }
  /** Cuts the wanted part from the next bytes of the file. */
  cut(bytes: Buffer): Buffer {
    const from = this.#position;
    this.#position += bytes.length;
    return bytes.subarray(Math.max(0, this.start - from), Math.max(0, this.end - from));
  }
}

/** Downloads a file with an smbclient of its own. The command goes to stdin, since in an argument a `;` in a name would end it.
 *  stdout carries only the file's bytes. */
class Download extends Readable {
  #child: ChildProcess | undefined;
  #said = '';
  #tries = 25;
  #settle: { done(): void; fail(error: Error): void } | undefined;
  /** Settles with the first bytes, with the end of an empty file, or with the error. */
  readonly begun: Promise<void>;
  #abort = () => this.destroy(abortError(showPath(this.location.parts)));

  constructor(
    readonly location: SharePath,
    readonly signal: AbortSignal,
    readonly window: Window,
  ) {
    super({ highWaterMark: 1 << 20 });
    this.on('error', () => undefined); // without a listener, an abort before the first read would end the process; the read reports it
    signal.addEventListener('abort', this.#abort, { once: true });
    this.begun = new Promise<void>((done, fail) => {
      this.#settle = { done, fail };
    });
    this.begun.catch(() => undefined); // reading reports it, too
    this.#start();
  }
  /** Starts an smbclient that requests the file after login. */
  #start(): void {
    const { connection } = this.location;
    const child = connection.login.start([connection.login.service(connection.share)], { timeout: dataTime });
    child.once('error', (cause) => this.destroy(new PluginError('failed', 'smbclient could not be started', { cause })));
    child.once('close', () => this.#closed());
    child.stdout?.on('data', (bytes: Buffer) => this.#take(bytes));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (this.#said.length < 1 << 16) this.#said += text;
    });
    child.stdin?.on('error', () => undefined); // 'close' reports it
    child.stdin?.end(`get ${quote(this.location.parts)} -\n`);
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
      : (incomplete(this.#said, this.window.position, this.location) ?? this.window.wrong(showPath(this.location.parts)));
    // during a replace the file cannot be opened for a moment: try again
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
    this.#child?.stdout?.resume(); // a paused stdout would never emit 'close'
  }
  override _read(): void {
    this.#child?.stdout?.resume();
  }
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.signal.removeEventListener('abort', this.#abort);
    this.#end();
    this.#settle?.fail(error ?? abortError(showPath(this.location.parts)));
    done(error);
  }
}

/** smbclient exits with 0 even if a command from stdin failed. Only its last message proves that the file is complete: it names the
 *  size that the file had when it was opened. */
function incomplete(said: string, bytes: number, { connection, parts }: SharePath): PluginError | undefined {
  const peer = connection.login.peer(connection.share);
  const done = said.split('\n').map((line) => /^getting file .* of size (\d+) as - \(/s.exec(line)?.[1]);
  if (done.some((size) => size !== undefined && Number(size) === bytes)) return undefined;
  if (isConnectError(said)) return connectError(said, peer);
  return transferError(said, `${showPath(parts)} ended after ${bytes} bytes`, peer);
}
