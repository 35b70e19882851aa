/** Reads a plain tar as a stream of members: ustar headers, GNU's long names, and whatever else GNU tar writes, as raw bytes. */
import { PluginError } from '../../../contract/index.js';

const unit = 512;
/** Longest name, and longest header of attributes. */
const mostHeader = 8 << 20;

/** Read `content` or `raw` to its end, not both, before the next member is asked for. */
export interface Member {
  /** Its bytes as latin-1. */
  readonly path: string;
  readonly size: number;
  /** The bytes of the file. */
  readonly content: AsyncIterable<Buffer>;
  /** All bytes of the member: its headers, also those before it that belong to it, its content and padding. */
  readonly raw: AsyncIterable<Buffer>;
}

/** Types of headers that belong to the next member: GNU's long names and pax's attributes. */
const belongs = ['L', 'K', 'x', 'g'];

class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(
    source: AsyncIterable<Buffer>,
    private readonly name: string,
  ) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Up to `most` bytes; undefined at the end. */
  async some(most: number): Promise<Buffer | undefined> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#source.next();
      if (done) return undefined;
      this.#rest = value;
    }
    const part = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }

  async *bytes(length: number): AsyncGenerator<Buffer> {
    for (let left = length; left > 0; ) {
      const part = await this.some(left);
      if (part === undefined) throw new PluginError('damaged', `${this.name} ends in the middle of a member; choose another run`);
      left -= part.length;
      yield part;
    }
  }

  async exactly(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for await (const part of this.bytes(length)) parts.push(part);
    return Buffer.concat(parts);
  }

  async rest(): Promise<void> {
    while ((await this.some(1 << 20)) !== undefined);
  }
}

const padded = (size: number): number => Math.ceil(size / unit) * unit;
const textIn = (head: Buffer, start: number, length: number): string =>
  head.toString('latin1', start, start + length).replace(/\0.*$/s, '');

function sizeIn(head: Buffer): number {
  if (((head[124] ?? 0) & 0x80) !== 0) return Number(head.readBigUInt64BE(128)); // base 256, for more than 8 GiB
  return Number.parseInt(textIn(head, 124, 12).trim() || '0', 8);
}

/** @throws PluginError damaged */
export async function* readTar(source: AsyncIterable<Buffer>, name: string): AsyncGenerator<Member> {
  const reader = new ByteReader(source, name);
  let before: Buffer[] = [];
  let long: string | undefined;
  for (;;) {
    const head = await reader.exactly(unit);
    if (head.every((byte) => byte === 0)) break;
    const size = sizeIn(head);
    if (!Number.isSafeInteger(size) || size < 0) throw new PluginError('damaged', `${name} has a member of no size; choose another run`);
    const type = String.fromCharCode(head[156] ?? 0);
    if (belongs.includes(type)) {
      if (size > mostHeader) throw new PluginError('damaged', `${name} has a header of ${size} bytes; choose another run`);
      const body = await reader.exactly(padded(size));
      before.push(head, body);
      if (type === 'L') long = body.toString('latin1', 0, size).replace(/\0.*$/s, '');
      continue;
    }
    const content = reader.bytes(size);
    const headers = [...before, head];
    async function* raw(): AsyncGenerator<Buffer> {
      yield* headers;
      yield* reader.bytes(padded(size));
    }
    const used = { content: false, raw: false };
    yield {
      path: long ?? textIn(head, 0, 100),
      size,
      content: once(content, () => (used.content = true)),
      raw: once(raw(), () => (used.raw = true)),
    };
    if (!used.raw) await reader.exactly(padded(size) - (used.content ? size : 0));
    [before, long] = [[], undefined];
  }
  await reader.rest();
}

async function* once(bytes: AsyncIterable<Buffer>, used: () => void): AsyncGenerator<Buffer> {
  used();
  yield* bytes;
}
