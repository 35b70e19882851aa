/** tar's list of what it packs, read while it is written. */
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { anySignal } from '../contract/index.js';

const atOnce = 65_536;
const lineEnd = 10;
/** How long after its end the list is looked at again, in ms, unless tar ends: each look wakes three processes. */
const pause = 100;

export class NameList {
  /** Lines, by the last pass over them. */
  entries = 0;

  constructor(
    private readonly path: string,
    /** Aborted once tar has ended. */
    private readonly ended: AbortSignal,
    private readonly signal: AbortSignal,
  ) {}

  /** Whole lines, from the first to the last, with their ends. */
  async *lines(): AsyncGenerator<Buffer> {
    this.entries = 0;
    const wake = anySignal(this.signal, this.ended);
    const list: FileHandle = await open(this.path, 'r');
    try {
      for (let rest: Buffer = Buffer.alloc(0); ; ) {
        const last = this.ended.aborted; // before it is read: what comes later is not missed
        const { bytesRead, buffer } = await list.read(Buffer.allocUnsafe(atOnce));
        const read = buffer.subarray(0, bytesRead);
        const lines = rest.length === 0 ? read : Buffer.concat([rest, read]);
        const end = lines.lastIndexOf(lineEnd) + 1;
        rest = lines.subarray(end);
        if (end > 0) yield this.#counted(lines.subarray(0, end));
        else if (bytesRead === 0 && last) return;
        if (bytesRead < atOnce && !last) await sleep(pause, undefined, { signal: wake }).catch(() => this.signal.throwIfAborted());
      }
    } finally {
      await list.close();
    }
  }

  #counted(lines: Buffer): Buffer {
    for (let at = lines.indexOf(lineEnd); at >= 0; at = lines.indexOf(lineEnd, at + 1)) this.entries++;
    return lines;
  }
}
