/** The requests of SFTP as functions. */
import type { SshConnection } from '../../../shared/ssh/connection.js';
import { type Answer, SftpChannel } from './channel.js';
import { hasStatus, Status, StatusError } from './status.js';
import { type Attributes, type Fields, type Path, packet, Reply, Request, readAttributes, writeRoom } from './wire.js';

export interface Named extends Attributes {
  /** The server's bytes, which need not be UTF-8. */
  readonly name: Buffer;
}

export interface FileSystem {
  readonly total: number;
  /** Bytes that this login may still store. */
  readonly free: number;
  readonly readOnly: boolean;
}

/** The size that every server accepts; limits@openssh.com tells larger ones. */
const leastLimit = 32 << 10;
const noAttributes = 0;

export class Sftp {
  /** Bytes of one read or write. */
  maxRead = leastLimit;
  maxWrite = leastLimit;

  private constructor(readonly channel: SftpChannel) {}

  /** @throws PluginError unsupported, unavailable */
  static async start(connection: SshConnection): Promise<Sftp> {
    const sftp = new Sftp(await SftpChannel.start(connection));
    if (sftp.offers('limits@openssh.com')) await sftp.#askLimits();
    return sftp;
  }

  /** Whether the server has this extension. */
  offers(name: string): boolean {
    return this.channel.extensions.has(name);
  }
  get failure() {
    return this.channel.failure;
  }
  close(): void {
    this.channel.close();
  }

  async #askLimits(): Promise<void> {
    const { fields } = await this.#extended('limits@openssh.com', []);
    fields.u64(); // skips the longest packet, which exceeds the two limits that follow
    const [read, write] = [fields.u64(), fields.u64()];
    if (read > 0) this.maxRead = read;
    if (write > 0) this.maxWrite = write;
  }

  async #ask(type: number, fields: Parameters<typeof packet>[2], expected: number): Promise<Answer> {
    const id = this.channel.next();
    return expect(await this.channel.ask(id, packet(type, id, fields)), expected);
  }
  #extended(name: string, fields: Parameters<typeof packet>[2], expected: number = Reply.extended): Promise<Answer> {
    return this.#ask(Request.extended, [name, ...fields], expected);
  }
  async #settle(work: Promise<Answer>): Promise<void> {
    await work;
  }

  async open(path: Path, flags: number): Promise<Buffer> {
    // copied, because a handle lives long and its packet may lie in a large chunk
    return Buffer.from((await this.#ask(Request.open, [path, flags, noAttributes], Reply.handle)).fields.string());
  }
  closeHandle(handle: Buffer): Promise<void> {
    return this.#settle(this.#ask(Request.close, [handle], Reply.status));
  }
  /** Reads at most `length` bytes, in the pieces that they came in; undefined at the end of the file. */
  async read(handle: Buffer, offset: number, length: number): Promise<Buffer[] | undefined> {
    try {
      const { fields, data } = await this.#ask(Request.read, [handle, BigInt(offset), length], Reply.data);
      return fields.strings(data);
    } catch (error) {
      if (hasStatus(error, Status.eof)) return undefined;
      throw error;
    }
  }
  /** Writes `length` bytes of `bytes` from writeRoom on, without a copy: the request's head goes into the room before them. The
   *  buffer must not change until this settles. */
  write(handle: Buffer, offset: number, bytes: Buffer, length: number): Promise<void> {
    const id = this.channel.next();
    const head = packet(Request.write, id, [handle, BigInt(offset), length], length);
    const from = writeRoom - head.length;
    head.copy(bytes, from);
    return this.#settle(this.channel.ask(id, bytes.subarray(from, writeRoom + length)).then((answer) => expect(answer, Reply.status)));
  }
  async lstat(path: Path): Promise<Attributes> {
    return readAttributes((await this.#ask(Request.lstat, [path], Reply.attrs)).fields);
  }
  async stat(path: Path): Promise<Attributes> {
    return readAttributes((await this.#ask(Request.stat, [path], Reply.attrs)).fields);
  }
  async fstat(handle: Buffer): Promise<Attributes> {
    return readAttributes((await this.#ask(Request.fstat, [handle], Reply.attrs)).fields);
  }
  async openFolder(path: Path): Promise<Buffer> {
    return Buffer.from((await this.#ask(Request.opendir, [path], Reply.handle)).fields.string());
  }
  /** The next entries, including '.' and '..'; undefined after the last. */
  async readFolder(handle: Buffer): Promise<Named[] | undefined> {
    try {
      return names((await this.#ask(Request.readdir, [handle], Reply.name)).fields);
    } catch (error) {
      if (hasStatus(error, Status.eof)) return undefined;
      throw error;
    }
  }
  remove(path: Path): Promise<void> {
    return this.#settle(this.#ask(Request.remove, [path], Reply.status));
  }
  makeFolder(path: Path): Promise<void> {
    return this.#settle(this.#ask(Request.mkdir, [path, noAttributes], Reply.status));
  }
  removeFolder(path: Path): Promise<void> {
    return this.#settle(this.#ask(Request.rmdir, [path], Reply.status));
  }
  /** The absolute form of a path; '.' gives the folder that the login starts in. */
  async realPath(path: Path): Promise<Buffer> {
    const [found] = names((await this.#ask(Request.realpath, [path], Reply.name)).fields);
    if (found === undefined) throw new StatusError(Status.noSuchFile, '');
    return Buffer.from(found.name);
  }
  /** Renames a file. Fails when `to` exists, on servers that follow the protocol. */
  rename(from: Path, to: Path): Promise<void> {
    return this.#settle(this.#ask(Request.rename, [from, to], Reply.status));
  }
  /** Renames and replaces `to` atomically. Needs posix-rename@openssh.com. */
  replace(from: Path, to: Path): Promise<void> {
    return this.#settle(this.#extended('posix-rename@openssh.com', [from, to], Reply.status));
  }
  /** Makes written bytes durable (fsync). Needs fsync@openssh.com. */
  sync(handle: Buffer): Promise<void> {
    return this.#settle(this.#extended('fsync@openssh.com', [handle], Reply.status));
  }
  /** The file system of a path. Needs statvfs@openssh.com. */
  async fileSystem(path: Path): Promise<FileSystem> {
    const { fields } = await this.#extended('statvfs@openssh.com', [path]);
    const [, unit = 0, blocks = 0, , available = 0, , , , , flags = 0] = Array.from({ length: 10 }, () => fields.u64());
    const total = blocks * unit;
    return { total, free: Math.min(available * unit, total), readOnly: flags % 2 === 1 };
  }
}

/** An open file of the server, with its channel. */
export interface OpenFile {
  readonly sftp: Sftp;
  readonly handle: Buffer;
}

function expect(answer: Answer, type: number): Answer {
  if (answer.type === type) return answer;
  throw new StatusError(Status.badMessage, `the server answers with a packet of kind ${answer.type} instead of ${type}`);
}

function names(fields: Fields): Named[] {
  return Array.from({ length: fields.u32() }, () => {
    const name = fields.string();
    fields.string(); // skips the line that ls would print
    return { name, ...readAttributes(fields) };
  });
}
