import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bench, type Check, digest, never, pattern, supply } from './support.js';

/** Bytes that a stream of any size may add to the memory: fixed buffers, and garbage that is not collected yet. */
const growth = 96 << 20;
/** Bytes that a target may read ahead of what it has written. */
const ahead = 16 << 20;

/** Checks with streams that do not fit into memory. */
export function large(bytes: number): readonly Check[] {
  return [
    { title: `${bytes} bytes are stored and read in bounded memory`, run: (bench) => bounded(bench, bytes) },
    { title: 'the source is read no faster than the target takes it', run: putPressure },
    { title: 'the target is read no faster than the reader takes it', run: getPressure },
  ];
}

async function bounded({ t, target, folder }: Bench, bytes: number): Promise<void> {
  const block = pattern(1 << 20);
  const hash = createHash('sha256');
  let peak = 0;
  const before = process.memoryUsage.rss();
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss() - before);
  }, 20);
  function* blocks(): Generator<Buffer> {
    for (let left = bytes; left > 0; left -= block.length) {
      // a new buffer each time, so that a target that keeps them instead of writing them takes more and more memory
      const piece = Buffer.from(block.subarray(0, Math.min(left, block.length)));
      hash.update(piece);
      yield piece;
    }
  }
  try {
    const stored = await target.put(`${folder}/large`, Readable.from(blocks(), { highWaterMark: 1 }), { signal: never() });
    t.equal(stored.bytes, bytes);
    t.equal((await target.stat(`${folder}/large`))?.size, bytes);
    t.equal(await digest(await target.get(`${folder}/large`, { signal: never() })), hash.digest('hex'), 'the same bytes');
  } finally {
    clearInterval(watch);
  }
  t.ok(peak < growth, `memory grew by ${Math.round(peak / (1 << 20))} MiB`);
}

/** Back-pressure: a target that waits for its writes needs a turn of the event loop for each. One that does not wait takes all in one turn. */
async function putPressure({ t, target, folder }: Bench): Promise<void> {
  const source = supply(64 << 20);
  let most = 0;
  let before = 0;
  let watching = true;
  const watch = () => {
    most = Math.max(most, source.given() - before);
    before = source.given();
    if (watching) setImmediate(watch);
  };
  watch();
  try {
    await target.put(`${folder}/pressure`, source.stream, { signal: never() });
  } finally {
    watching = false;
  }
  t.equal(source.given(), 64 << 20);
  t.ok(most < ahead, `at most ${most} bytes were taken in a turn`);
}

async function getPressure({ t, target, folder }: Bench): Promise<void> {
  await target.put(`${folder}/slow`, supply(64 << 20).stream, { signal: never() });
  const stream = await target.get(`${folder}/slow`, { signal: never() });
  await new Promise<void>((resolve) => stream.once('readable', resolve));
  await sleep(500);
  t.ok(stream.readableLength < ahead, `${stream.readableLength} bytes wait in the stream`);
  stream.destroy();
}
