/** One channel of an SSH connection that speaks SFTP, and the requests that wait for an answer. */
import type { ClientChannel } from 'ssh2';
import { PluginError } from '../../../../core/contract/index.js';
import type { SshConnection } from '../../../shared/ssh/connection.js';
import { awayError } from '../../../shared/ssh/errors.js';
import { keepWindowOpen } from '../../../shared/ssh/window.js';
import { StatusError } from './status.js';
import { type Fields, Frames, packet, Reply, Request, unpackFrame } from './wire.js';

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

export interface Answer {
  readonly type: number;
  readonly fields: Fields;
  /** The bytes after the fields, in the answer to a read. */
  readonly data: readonly Buffer[];
}

/** The channel's window: as large as the most bytes in flight (inflight-window.ts). */
const room = 4 << 20;
/** Time limit of the server's version packet. */
const versionTime = 10_000;

export class SftpChannel {
  readonly extensions = new Map<string, string>();
  /** Set once the channel has ended: why. */
  failure: PluginError | undefined;
  /** Shortest time of any request so far, in ms: an estimate of the round trip. */
  roundTrip = Number.POSITIVE_INFINITY;
  readonly #waiting = new Map<number, Waiting>();
  readonly #frames = new Frames();
  #id = 0;
  /** A signal killed the server's sftp process. */
  #killed = false;
  #version: ((answer: Fields) => void) | undefined;

  private constructor(
    readonly connection: SshConnection,
    readonly stream: ClientChannel,
  ) {
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    keepWindowOpen(stream, room);
    stream.stderr.resume();
    stream.on('error', (cause: Error) => this.#fail(`the sftp channel broke: ${cause.message}`));
    stream.on('exit', (code: number | null) => {
      this.#killed = code === null;
    });
    stream.on('close', () => this.#fail('the server ended the sftp channel'));
    void connection.closed.then((failure) => this.#end(failure));
  }

  /** @throws PluginError unsupported (no sftp there), unavailable */
  static async start(connection: SshConnection): Promise<SftpChannel> {
    const stream = await connection.subsystem('sftp').catch((error: unknown) => {
      if (!(error instanceof PluginError) || error.code !== 'unsupported') throw error;
      const fix = 'let it offer it ("Subsystem sftp internal-sftp" in sshd_config) or use another target type';
      throw new PluginError('unsupported', `${connection.address}: the server has no sftp subsystem; ${fix}`, { cause: error });
    });
    const channel = new SftpChannel(connection, stream);
    await channel.#greet();
    return channel;
  }

  #greet(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: unknown): void => {
        clearTimeout(timer);
        if (error === undefined) resolve();
        else reject(error);
      };
      const timer = setTimeout(() => {
        settle(awayError(this.connection.address, 'the sftp subsystem does not answer'));
        this.close();
      }, versionTime);
      this.#waiting.set(-1, { resolve: () => settle(), reject: (error) => settle(this.#noSftp(error)) });
      this.#version = (fields) => {
        fields.u32(); // skips the version; a server with a lower one still has all that is needed
        while (fields.left > 0) this.extensions.set(String(fields.string()), String(fields.string()));
      };
      this.stream.write(packet(Request.init, undefined, [3]));
    });
  }

  /** A channel that ends before its first answer is no sftp: the login's shell or forced command prints text or refuses sftp. */
  #noSftp(error: unknown): unknown {
    if (this.connection.failure !== undefined || this.#killed) return error;
    const fix = 'let this login use sftp, without a shell or a command that prints anything';
    return new PluginError('unsupported', `${this.connection.address}: what answers is no sftp server; ${fix}`, { cause: error });
  }

  /** The id of the next request. */
  next(): number {
    this.#id = (this.#id + 1) >>> 0;
    return this.#id;
  }

  /** Sends a packet and waits for the answer with its id. @throws StatusError, PluginError unavailable */
  ask(id: number, bytes: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) return reject(this.failure);
      const since = performance.now();
      const answered = (answer: Answer): void => {
        this.roundTrip = Math.min(this.roundTrip, performance.now() - since);
        resolve(answer);
      };
      this.#waiting.set(id, { resolve: answered, reject });
      this.stream.write(bytes);
    });
  }

  /** Ends the channel. Waiting requests fail. */
  close(): void {
    this.#fail('the sftp channel was closed');
  }

  #take(chunk: Buffer): void {
    if (this.failure !== undefined) return;
    try {
      this.#frames.push(chunk, (frame) => this.#answer(frame));
    } catch (cause) {
      this.#fail(`the server sent what is no sftp: ${String(cause)}`);
    }
  }

  #answer(frame: readonly Buffer[]): void {
    const answer = unpackFrame(frame);
    const { type, fields } = answer;
    if (type === Reply.version) {
      this.#version?.(fields);
      this.#settle(-1)?.resolve(answer);
      return;
    }
    const waiting = this.#settle(fields.u32());
    if (waiting === undefined) return;
    const status = type === Reply.status ? fields.u32() : 0;
    if (status === 0) waiting.resolve(answer);
    else waiting.reject(new StatusError(status, fields.left >= 4 ? String(fields.string()) : ''));
  }

  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #fail(why: string): void {
    this.#end(awayError(this.connection.address, why));
  }

  #end(failure: PluginError): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.stream.destroy();
    for (const { reject } of this.#waiting.values()) reject(failure);
    this.#waiting.clear();
  }
}
