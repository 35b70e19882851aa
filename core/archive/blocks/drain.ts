/** Takes bytes from a source as fast as it gives them, so that a paused container resumes before a slow compressor or target has them. */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { readWhole, writeWhole } from '../../primitives/whole-bytes.js';

export interface DrainRoom {
  /** Bytes that wait in memory. */
  readonly memory: number;
  /** Bytes that wait in a file beyond that. When both are full, the source waits for the reader. */
  readonly disk: number;
  /** Path for that file; it exists only while it is needed. */
  readonly file: string;
}

export interface Drained {
  /** The source's bytes. It fails as the source does. */
  readonly stream: Readable;
  /** Resolves when the source has given all. */
  readonly read: Promise<void>;
}

/** A part that waits: its bytes, or where they lie in the file. */
type Part = Buffer | { readonly at: number; readonly length: number };

class Queue {
  readonly #parts: Part[] = [];
  #memory = 0;
  #disk = 0;
  #file: FileHandle | undefined;
  #wake: (() => void)[] = [];
  #ended: { readonly error?: unknown } | undefined;

  constructor(private readonly room: DrainRoom) {}

  /** Resolves when there was room for the bytes. */
  async put(bytes: Buffer): Promise<void> {
    const fits = () =>
      this.#parts.length === 0 || this.#memory + bytes.length <= this.room.memory || this.#disk + bytes.length <= this.room.disk;
    while (!fits()) await this.#change();
    if (this.#parts.length === 0 || this.#memory + bytes.length <= this.room.memory) {
      this.#memory += bytes.length;
      this.#add(bytes);
    } else this.#add(await this.#spill(bytes));
  }

  async #spill(bytes: Buffer): Promise<Part> {
    this.#file ??= await open(this.room.file, 'w+', 0o600);
    const at = this.#disk;
    await writeWhole(this.#file, bytes, at);
    this.#disk += bytes.length; // room of the file is used once: a pause is short
    return { at, length: bytes.length };
  }

  end(error?: unknown): void {
    this.#ended ??= error === undefined ? {} : { error };
    this.#notify();
  }

  async *bytes(): AsyncGenerator<Buffer> {
    try {
      for (;;) {
        const part = this.#parts.shift();
        if (part === undefined) {
          if (this.#ended?.error !== undefined) throw this.#ended.error;
          if (this.#ended) return;
          await this.#change();
          continue;
        }
        const bytes = Buffer.isBuffer(part) ? part : await this.#readBack(part);
        if (Buffer.isBuffer(part)) this.#memory -= part.length;
        this.#notify();
        yield bytes;
      }
    } finally {
      this.end(new Error('nobody reads any more')); // the source must not wait for ever
      await this.#file?.close();
      await rm(this.room.file, { force: true });
    }
  }

  async #readBack({ at, length }: Exclude<Part, Buffer>): Promise<Buffer> {
    const bytes = this.#file && (await readWhole(this.#file, Buffer.allocUnsafe(length), at));
    if (bytes?.length !== length) throw new Error(`${this.room.file} is shorter than what was written`);
    return bytes;
  }

  get isGivenUp(): boolean {
    return this.#ended !== undefined;
  }

  #add(part: Part): void {
    this.#parts.push(part);
    this.#notify();
  }
  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }
  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** Begins at once. @param source each of its buffers must stay as it is */
export function drain(source: AsyncIterable<Buffer>, room: DrainRoom): Drained {
  const queue = new Queue(room);
  const read = (async () => {
    for await (const bytes of source) {
      if (queue.isGivenUp) return;
      await queue.put(bytes);
    }
  })();
  read.then(
    () => queue.end(),
    (error: unknown) => queue.end(error),
  );
  return { stream: Readable.from(queue.bytes(), { objectMode: false }), read };
}
