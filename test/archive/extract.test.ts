import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  type ArchiveEntry,
  type Compression,
  extractLevel,
  packLevel,
  recordPath,
  unpackFile,
  zstdStream,
} from '../../core/archive/index.js';
import { PluginError } from '../../core/contract/index.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { supply } from '../conformance/target/support.js';
import { archive, codeOf, folderSource, hash, never, temporary } from '../system/hostile/archive-samples.js';

interface Sample {
  readonly bytes: Buffer;
  readonly entry: ArchiveEntry;
  /** A new folder to extract into. */
  folder(): Promise<string>;
}

async function sample(t: Test, compression: Compression, size = 300_000): Promise<Sample> {
  const top = await temporary(t);
  await mkdir(join(top, 'source'));
  await writeFile(join(top, 'source/file'), randomBytes(size));
  const plan = { source: folderSource(join(top, 'source')), compression, snapshot: join(top, 's'), reference: 0, looks: false } as const;
  const bytes = await buffer((await packLevel(plan, never, () => undefined)).stream);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  let n = 0;
  const folder = async () => {
    const path = join(top, `to-${++n}`);
    await mkdir(path);
    return path;
  };
  return { bytes, folder, entry: archive('x.tar', { compression, sha256, stored_bytes: bytes.length }) };
}

t.test('small chunks reach the child up to the last one', async (t) => {
  const { bytes, entry, folder } = await sample(t, 'zstd', 1_000_003);
  const chunks = Array.from({ length: Math.ceil(bytes.length / 3001) }, (_, n) => bytes.subarray(n * 3001, (n + 1) * 3001));
  const once = async () => codeOf(extractLevel(entry, 'folder', await folder(), Readable.from(chunks), never));
  const codes = await Promise.all(Array.from({ length: 24 }, once));
  t.same(
    codes.filter((code) => code !== 'fine'),
    [],
    'of 24 at a time',
  );
});

for (const compression of ['none', 'zstd'] as const) {
  t.test(`an archive is accepted only with the stored size and hash, ${compression}`, async (t) => {
    const { bytes, entry, folder } = await sample(t, compression);
    const extracted = async (given: Buffer, told: Partial<ArchiveEntry> = {}) =>
      codeOf(extractLevel({ ...entry, ...told }, 'folder', await folder(), Readable.from([given]), never));
    t.equal(await extracted(bytes), 'fine');
    t.equal(await extracted(bytes, { sha256: hash('0') }), 'damaged', 'another hash');
    t.equal(await extracted(bytes, { stored_bytes: bytes.length + 1 }), 'damaged', 'another length');
    for (const length of [0, 1, 511, 512, 10_240, bytes.length - 10_240, bytes.length - 1])
      t.equal(await extracted(bytes.subarray(0, length)), 'damaged', `cut at ${length} of ${bytes.length}`);
    t.equal(await extracted(Buffer.concat([bytes, Buffer.alloc(512)])), 'damaged', 'zeros after its end');
    t.equal(await extracted(Buffer.concat([bytes, bytes])), 'damaged', 'twice');
    for (const at of [0, 300, 5000, 200_000, bytes.length - 1]) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      t.equal(await extracted(flipped), 'damaged', `a flipped bit at ${at}`);
    }
    t.equal(await extracted(randomBytes(10_240)), 'damaged', 'no archive at all');
  });

  t.test(`a failed source is reported with its own error, ${compression}`, async (t) => {
    const { bytes, entry, folder } = await sample(t, compression, 3_000_000);
    async function* broken() {
      yield bytes.subarray(0, 1_000_000);
      await sleep(50);
      throw new PluginError('unavailable', 'the server went away');
    }
    const work = extractLevel(entry, 'folder', await folder(), Readable.from(broken()), never);
    t.equal(await codeOf(work), 'unavailable', 'not as damage of what is stored');
  });

  t.test(`input after the end of the archive is no failure, ${compression}`, async (t) => {
    const { bytes, entry, folder } = await sample(t, compression);
    async function* late() {
      yield bytes;
      await sleep(300); // tar has ended by now
    }
    const target = await folder();
    t.equal(await codeOf(extractLevel(entry, 'folder', target, Readable.from(late()), never)), 'fine');
    t.equal((await readFile(join(target, 'file'))).length, 300_000);
  });

  t.test(`an abort ends an extraction at once, ${compression}`, async (t) => {
    const { bytes, entry, folder } = await sample(t, compression);
    async function* stalled() {
      yield bytes.subarray(0, 1000);
      await sleep(60_000, undefined, { ref: false });
    }
    const abort = new AbortController();
    const began = Date.now();
    setTimeout(() => abort.abort(), 100);
    t.equal(await codeOf(extractLevel(entry, 'folder', await folder(), Readable.from(stalled()), abort.signal)), 'aborted');
    t.ok(Date.now() - began < 5000, `${Date.now() - began} ms`);
  });
}

t.test('a full disk is reported as no_space', async (t) => {
  const { bytes, entry } = await sample(t, 'zstd', 3_000_000);
  const small = await temporary(t);
  await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
  try {
    t.equal(await codeOf(extractLevel(entry, 'folder', small, Readable.from([bytes]), never)), 'no_space');
  } finally {
    await childOutput('umount', [small]);
  }
});

t.test('a missing folder does not count as damage of the archive', async (t) => {
  const { bytes, entry, folder } = await sample(t, 'none');
  const absent = await folder();
  await rm(absent, { recursive: true });
  await t.rejects(extractLevel(entry, 'folder', absent, Readable.from([bytes]), never), /Cannot open|No such file/);
});

t.test('zstd decompresses what it compressed', async (t) => {
  for (const size of [0, 1, 70_000, 5_000_000]) {
    const plain = await buffer(supply(size).stream);
    const packed = await buffer(zstdStream(Readable.from([plain]), 'compress', never));
    t.ok((await buffer(zstdStream(Readable.from([packed]), 'decompress', never))).equals(plain), `${size} bytes`);
  }
});

t.test('zstd fails with the reason', async (t) => {
  const packed = await buffer(zstdStream(supply(3_000_000).stream, 'compress', never));
  const through = (source: Readable, mode: 'compress' | 'decompress', signal = never) => codeOf(buffer(zstdStream(source, mode, signal)));
  const noise = Readable.from([randomBytes(5_000_000)]);
  t.equal(await through(noise, 'decompress'), 'damaged', 'what is no zstd, longer than a pipe takes');
  t.equal(await through(Readable.from([Buffer.from('no zstd')]), 'decompress'), 'damaged', 'what is no zstd');
  t.equal(await through(Readable.from([packed.subarray(0, packed.length - 5)]), 'decompress'), 'damaged', 'cut');
  for (const mode of ['compress', 'decompress'] as const) {
    async function* broken() {
      yield mode === 'compress' ? randomBytes(1_000_000) : packed.subarray(0, 1000);
      throw new PluginError('stalled', 'nothing came');
    }
    t.equal(await through(Readable.from(broken()), mode), 'stalled', `${mode}: a source that breaks is never an end`);
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 50);
    t.equal(await through(supply(1000, { end: 'stall' }).stream, mode, abort.signal), 'aborted', `${mode}: stopped`);
  }
});

t.test('a snapshot is unpacked only when it is whole', async (t) => {
  const folder = await temporary(t);
  const bytes = await buffer(zstdStream(Readable.from([Buffer.from('a snapshot')]), 'compress', never));
  const file = { path: recordPath('s.snar.zst'), stored_bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  const unpacked = (given: Buffer, told = file) => codeOf(unpackFile(told, join(folder, 's'), Readable.from([given]), never));
  t.equal(await unpacked(bytes), 'fine');
  t.equal(await readFile(join(folder, 's'), 'utf8'), 'a snapshot');
  t.equal(await unpacked(bytes.subarray(0, 8)), 'damaged', 'cut');
  t.equal(await unpacked(bytes, { ...file, sha256: hash('0') }), 'damaged', 'another hash');
  t.equal(await unpacked(Buffer.from('nothing of the kind')), 'damaged');
});

t.test('the output of a child that has exited waits for its reader', async (t) => {
  for (const size of [0, 10, 200_000]) {
    const plain = randomBytes(size);
    const packed = await buffer(zstdStream(Readable.from([plain]), 'compress', never));
    const late = zstdStream(Readable.from([packed]), 'decompress', never);
    await sleep(300); // zstd has exited, or has filled its pipe
    t.ok((await buffer(late)).equals(plain), `${size} bytes`);
  }
});
