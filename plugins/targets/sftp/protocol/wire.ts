/** Encodes and decodes packets of SFTP version 3 (draft-ietf-secsh-filexfer-02) and OpenSSH's extensions. */

export const Request = {
  init: 1,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  lstat: 7,
  fstat: 8,
  opendir: 11,
  readdir: 12,
  remove: 13,
  mkdir: 14,
  rmdir: 15,
  realpath: 16,
  stat: 17,
  rename: 18,
  extended: 200,
} as const;

export const Reply = { version: 2, status: 101, handle: 102, data: 103, name: 104, attrs: 105, extended: 201 } as const;

/** Flags of an open. */
export const Open = { read: 1, write: 2, create: 8, exclusive: 32 } as const;

/** A path or name: our text, or the server's bytes, which need not be UTF-8. */
export type Path = string | Buffer;

/** A number is a uint32, a bigint a uint64, anything else a string with its length before it. */
type Field = number | bigint | Path;

/** A packet with its length. For a write, only the head: the caller sends `data` bytes after it. */
export function packet(type: number, id: number | undefined, fields: readonly Field[], data = 0): Buffer {
  const known = fields.map((field) => (typeof field === 'string' ? Buffer.from(field) : field));
  const size = known.reduce((sum: number, field) => sum + sizeOf(field), id === undefined ? 5 : 9);
  const bytes = Buffer.allocUnsafe(size);
  bytes.writeUInt32BE(size - 4 + data, 0);
  bytes[4] = type;
  let at = id === undefined ? 5 : bytes.writeUInt32BE(id, 5);
  for (const field of known) {
    if (typeof field === 'number') at = bytes.writeUInt32BE(field, at);
    else if (typeof field === 'bigint') at = bytes.writeBigUInt64BE(field, at);
    else at = bytes.writeUInt32BE(field.length, at) + field.copy(bytes, at + 4);
  }
  return bytes;
}

/** Room for the head of a write: a handle has 256 bytes at most. */
export const writeRoom = 320;

const sizeOf = (field: number | bigint | Buffer): number =>
  typeof field === 'number' ? 4 : typeof field === 'bigint' ? 8 : 4 + field.length;

/** Reads the fields of a packet in order. @throws RangeError when there are no more */
export class Fields {
  #at = 0;
  constructor(readonly bytes: Buffer) {}

  get left(): number {
    return this.bytes.length - this.#at;
  }
  u32(): number {
    const value = this.bytes.readUInt32BE(this.#at);
    this.#at += 4;
    return value;
  }
  /** Exact up to 2^53: no file is longer. */
  u64(): number {
    const value = this.bytes.readBigUInt64BE(this.#at);
    this.#at += 8;
    return Number(value);
  }
  /** A string whose end may be in the further pieces. */
  strings(more: readonly Buffer[]): Buffer[] {
    const length = this.u32();
    const all = [this.bytes.subarray(this.#at), ...more].filter((piece) => piece.length > 0);
    if (all.reduce((sum, piece) => sum + piece.length, 0) !== length) throw new RangeError('data of another length than said');
    return all;
  }
  string(): Buffer {
    const length = this.u32();
    if (length > this.left) throw new RangeError('a field is longer than its packet');
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }
}

/** Attributes of a file; a server may leave out any. */
export interface Attributes {
  readonly size?: number;
  readonly mode?: number;
  /** Seconds since 1970, by the server's clock. */
  readonly modified?: number;
}

const formatMask = 0o170000;
export const isFolder = ({ mode }: Attributes): boolean => mode !== undefined && (mode & formatMask) === 0o040000;
/** A server that does not tell the type has only regular files. */
export const isRegular = ({ mode }: Attributes): boolean => mode === undefined || (mode & formatMask) === 0o100000;

export function readAttributes(fields: Fields): Attributes {
  const flags = fields.u32();
  const size = flags & 1 ? fields.u64() : undefined;
  if (flags & 2) fields.u64(); // skips owner and group
  const mode = flags & 4 ? fields.u32() : undefined;
  if (flags & 8) fields.u32(); // skips the access time
  const modified = flags & 8 ? fields.u32() : undefined;
  for (let extended = flags & 0x80000000 ? fields.u32() : 0; extended > 0; extended--) {
    fields.string();
    fields.string();
  }
  return {
    ...(size === undefined ? {} : { size }),
    ...(mode === undefined ? {} : { mode }),
    ...(modified === undefined ? {} : { modified }),
  };
}

/** Longest packet accepted. It is far above what any server sends; a longer one is no SFTP. */
const longest = 4 << 20;

/** Cuts the incoming bytes into packets without copying: a packet is given as the pieces that it came in. */
export class Frames {
  readonly #head = Buffer.alloc(4);
  #headSize = 0;
  #frame: Buffer[] = [];
  /** Bytes of the packet still to come. */
  #left = 0;

  /** Calls `take` with each complete packet, without its length. @throws RangeError when this cannot be SFTP */
  push(chunk: Buffer, take: (frame: readonly Buffer[]) => void): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#left === 0) {
        at += this.#readLength(chunk, at);
        continue;
      }
      const some = chunk.subarray(at, at + this.#left);
      at += some.length;
      this.#left -= some.length;
      this.#frame.push(some);
      if (this.#left > 0) return;
      const whole = this.#frame;
      this.#frame = [];
      take(whole);
    }
  }

  #readLength(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#head, this.#headSize, at, at + 4 - this.#headSize);
    this.#headSize += taken;
    if (this.#headSize < 4) return taken;
    this.#headSize = 0;
    this.#left = this.#head.readUInt32BE(0);
    if (this.#left === 0 || this.#left > longest) throw new RangeError(`a packet of ${this.#left} bytes`);
    return taken;
  }
}

/** Unpacks a packet given in pieces. Joins the pieces, except the data of an answer to a read, which may be long.
 *  @throws RangeError */
export function unpackFrame(frame: readonly Buffer[]): { type: number; fields: Fields; data: readonly Buffer[] } {
  const [first, ...more] = frame;
  if (first === undefined) throw new RangeError('a packet of nothing');
  // 9 bytes: type, id and length of the data
  const long = first[0] === Reply.data && first.length >= 9;
  const whole = long || more.length === 0 ? first : Buffer.concat(frame);
  return { type: whole.readUInt8(0), fields: new Fields(whole.subarray(1)), data: long ? more : [] };
}
