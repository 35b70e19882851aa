/** Big files by blocks: whatever happens to them between levels, each level comes back as it was. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import {
  type AppliedFiles,
  applyBlocks,
  type BlockReport,
  type BlockTable,
  checkBlocks,
  emptyReport,
  extractLevel,
  findBigFiles,
  type LevelPlan,
  Meter,
  openTop,
  packBlocks,
  packLevel,
  statFiles,
  TableWriter,
} from '../../core/archive/index.js';
import { change, least, random } from '../support/big-file-history.js';
import { pointsOf, seed } from '../support/depth.js';
import { differences, snapshotOf } from '../support/fidelity.js';
import { archive, folderSource, never, temporary } from '../system/hostile/archive-samples.js';

interface Level {
  readonly tar: Buffer;
  readonly entry: ReturnType<typeof archive>;
  readonly blocks: Buffer;
  readonly report: BlockReport;
  readonly table: BlockTable;
  readonly snapshot: string;
}

class Bed {
  readonly #tables: TableWriter[] = [];
  #number = 0;
  constructor(
    readonly folder: string,
    readonly source: string,
  ) {}

  static async make(t: Test): Promise<Bed> {
    const folder = await temporary(t);
    const source = join(folder, 'source/volume');
    await mkdir(source, { recursive: true });
    const bed = new Bed(folder, source);
    t.teardown(() => Promise.all(bed.#tables.map((table) => table[Symbol.asyncDispose]())));
    return bed;
  }

  async level(before?: Level): Promise<Level> {
    const number = this.#number++;
    const source = folderSource(this.source, { excludes: ['./excluded', './*.skip'] });
    const reference = Date.now();
    const tree = { kind: 'folder', path: this.source, access: 'read' } as const;
    await using top = await openTop(this.source);
    const { files: found } = await findBigFiles({ tree, least, excludes: source.excludes, list: this.#at(number, 'names') }, never);
    const seen = new Set(found.map(({ path }) => path));
    const known = [...(before?.table.entries.keys() ?? [])].filter((path) => !seen.has(path));
    const files = [...found, ...(await statFiles(top, known))];
    const packed = await this.#tar(number, { source, reference, leaveOut: files.map(({ path }) => path) }, before);
    const table = await TableWriter.create(this.#at(number, 'hashes'));
    this.#tables.push(table);
    const report = emptyReport();
    const workFolder = this.#at(number, 'meta');
    const plan = { tree, top, files, before: before?.table, table, reference, looks: false, workFolder, signal: never };
    return { ...packed, blocks: await all(packBlocks(plan, report)), report, table };
  }

  #at(number: number, name: string): string {
    return join(this.folder, `${number}.${name}`);
  }

  async #tar(
    number: number,
    part: Pick<LevelPlan, 'source' | 'reference' | 'leaveOut'>,
    before?: Level,
  ): Promise<Pick<Level, 'tar' | 'entry' | 'snapshot'>> {
    const snapshot = this.#at(number, 'snar');
    const plan = { ...part, compression: 'none', snapshot, looks: false, ...(before && { since: before.snapshot }) } as const;
    const { stream, report, searched } = await packLevel(plan, never, () => undefined);
    const meter = new Meter();
    const tar = await all(stream.pipe(meter));
    const { entries } = await searched;
    const sizes = { stored_bytes: meter.bytes, sha256: meter.sha256, bytes: report.bytes, entries };
    return { tar, entry: archive('x.tar', { ...sizes, compression: 'none' }), snapshot };
  }

  async restore(levels: readonly Level[]): Promise<string> {
    const folder = join(this.folder, `restored-${this.#number++}`);
    await mkdir(folder);
    const files: AppliedFiles = new Map();
    await using top = await openTop(folder);
    for (const { tar, entry, blocks } of levels) {
      await extractLevel(entry, 'folder', folder, Readable.from([tar]), never);
      if (blocks.length === 0) continue;
      const tree = { kind: 'folder', path: folder, access: 'write' } as const;
      await applyBlocks({ tree, top, files, workFolder: join(this.folder, 'standins'), name: 'x', signal: never }, split(blocks));
    }
    await checkBlocks(top, files, 'x', never);
    return folder;
  }
}

async function all(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

/** In pieces of odd sizes, as a stream gives them. */
async function* split(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 100_003) yield bytes.subarray(at, at + size);
}

for (let number = seed; number < seed + pointsOf('blocks').histories; number++) {
  t.test(`random history ${number} of big files comes back at each run`, async (t) => {
    const bed = await Bed.make(t);
    const pick = random(number * 7919);
    const did: string[] = [];
    const changes = async (count: number) => {
      for (let n = 0; n < count; n++) did.push(await change(bed.source, pick));
    };
    await changes(12);
    const base = await bed.level();
    for (let run = 0; run < 3; run++) {
      await changes(1 + pick(8));
      const live = await bed.level(base);
      await changes(1 + pick(4));
      const tail = await bed.level(live);
      const was = await snapshotOf(bed.source);
      const restored = await bed.restore([base, live, tail]);
      const wrong = differences(was, await snapshotOf(restored));
      if (!t.same(wrong, [], `run ${run}`)) return t.comment(did.join('; '), await readdir(restored));
      await rm(restored, { recursive: true });
    }
  });
}
