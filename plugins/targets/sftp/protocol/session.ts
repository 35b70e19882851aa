/** One sftp session: a channel of an SSH connection, and the requests that wait for an answer. */
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

export class Session {
  readonly extensions = new Map<string, string>();
  /** Set once the session has ended: why. */
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
    readonly channel: ClientChannel,
  ) {
    channel.on('data', (chunk: Buffer) => this.#take(chunk));
    keepWindowOpen(channel, room);
    channel.stderr.resume();
    channel.on('error', (cause: Error) => this.#fail(`the sftp session broke: ${cause.message}`));
    channel.on('exit', (code: number | null) => {
      this.#killed = code === null;
    });
    channel.on('close', () => this.#fail('the server ended the sftp session'));
    void connection.closed.then((failure) => this.#end(failure));
  }

  /** @throws PluginError unsupported (no sftp there), unavailable */
  static async start(connection: SshConnection): Promise<Session> {
    const channel = await connection.subsystem('sftp').catch((error: unknown) => {
      if (!(error instanceof PluginError) || error.code !== 'unsupported') throw error;
      const fix = 'let it offer it ("Subsystem sftp internal-sftp" in sshd_config) or use another target type';
      throw new PluginError('unsupported', `${connection.place}: the server has no sftp subsystem; ${fix}`, { cause: error });
    });
    const session = new Session(connection, channel);
    await session.#greet();
    return session;
  }

  #greet(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: unknown): void => {
        clearTimeout(timer);
        if (error === undefined) resolve();
        else reject(error);
      };
      const timer = setTimeout(() => {
        settle(awayError(this.connection.place, 'the sftp subsystem does not answer'));
        this.close();
      }, versionTime);
      this.#waiting.set(-1, { resolve: () => settle(), reject: (error) => settle(this.#noSftp(error)) });
      this.#version = (fields) => {
        fields.u32(); // skips the version; a server with a lower one still has all that is needed
        while (fields.left > 0) this.extensions.set(String(fields.string()), String(fields.string()));
      };
      this.channel.write(packet(Request.init, undefined, [3]));
    });
  }

  /** A session that ends before its first answer is no sftp: the login's shell or forced command prints text or refuses sftp. */
  #noSftp(error: unknown): unknown {
    if (this.connection.failure !== undefined || this.#killed) return error;
    const fix = 'let this login use sftp, without a shell or a command that prints anything';
    return new PluginError('unsupported', `${this.connection.place}: what answers is no sftp server; ${fix}`, { cause: error });
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
      this.channel.write(bytes);
    });
  }

  /** Ends the session. Waiting requests fail. */
  close(): void {
    this.#fail('the sftp session was closed');
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
    this.#end(awayError(this.connection.place, why));
  }

  #end(failure: PluginError): void {
    if (this.failure !== undefined) return;
    this.failure = failure;
    this.channel.destroy();
    for (const { reject } of this.#waiting.values()) reject(failure);
    this.#waiting.clear();
  }
}
