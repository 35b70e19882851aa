/** Big files by blocks: whatever happens to them between levels, each level comes back as it was. */
import { randomBytes } from 'node:crypto';
import { chmod, chown, link, lstat, mkdir, open, readdir, rename, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
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
  Meter,
  openTop,
  packBlocks,
  packLevel,
  TableWriter,
} from '../../core/archive/index.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { differences, snapshotOf } from '../support/fidelity.js';
import { archive, folderSource, never, temporary } from '../system/hostile/archive-samples.js';

const least = 200 << 10;

interface Level {
  readonly tar: Buffer;
  readonly entry: ReturnType<typeof archive>;
  readonly blocks: Buffer;
  readonly report: BlockReport;
  readonly table: BlockTable;
  readonly snapshot: string;
}

class Bed {
  #number = 0;
  constructor(
    readonly folder: string,
    readonly source: string,
  ) {}

  static async make(t: Test): Promise<Bed> {
    const folder = await temporary(t);
    const source = join(folder, 'source/volume');
    await mkdir(source, { recursive: true });
    return new Bed(folder, source);
  }

  async level(before?: Level): Promise<Level> {
    const number = this.#number++;
    const at = (name: string) => join(this.folder, `${number}.${name}`);
    const source = folderSource(this.source);
    const reference = Date.now();
    const tree = { kind: 'folder', path: this.source, access: 'read' } as const;
    await using top = await openTop(this.source);
    const known = before?.table.entries.keys() ?? [];
    const files = await findBigFiles({ tree, top, least, known, excludes: source.excludes, list: at('names') }, never);
    const names = files.map(({ path }) => path);
    const plan = { source, compression: 'none', snapshot: at('snar'), reference, moved: 'ignore', leaveOut: names } as const;
    const {
      stream,
      report: tarReport,
      searched,
    } = await packLevel({ ...plan, ...(before && { since: before.snapshot }) }, never, () => undefined);
    const meter = new Meter();
    const tar = await all(stream.pipe(meter));
    const { entries } = await searched;
    const entry = archive('x.tar', {
      stored_bytes: meter.bytes,
      sha256: meter.sha256,
      bytes: tarReport.bytes,
      entries,
      compression: 'none',
    });
    const table = await TableWriter.create(at('hashes'));
    const report = emptyReport();
    const blocks = await all(
      packBlocks(
        { tree, top, files, before: before?.table, table, reference, looks: false, workFolder: at('meta'), signal: never },
        report,
      ),
    );
    return { tar, entry, blocks, report, table, snapshot: at('snar') };
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

function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
    return Math.floor((state / 0x8000_0000) * below);
  };
}

const names = [
  'db',
  'a folder/inner.img',
  'a folder/deep/er/x',
  'lat\xe9in',
  'new\nline',
  'blank ',
  '-dash',
  '*star[x]',
  'back\\slash',
  '\u00e9'.repeat(60),
];

async function change(folder: string, pick: (below: number) => number): Promise<string> {
  const name = names[pick(names.length)] ?? 'db';
  const path = join(folder, name);
  const other = join(folder, names[pick(names.length)] ?? 'db');
  // A symlink is replaced, never followed: it leads out of the test's folder.
  const exists = await lstat(path).then(
    (found) => found.isFile(),
    () => false,
  );
  const size = exists ? (await stat(path)).size : 0;
  const bytes = randomBytes(1 + pick(150_000));
  const write = async (position: number) => {
    await using file = await open(path, 'r+');
    await file.write(bytes, 0, bytes.length, position);
  };
  const fresh = async () => {
    await mkdir(join(path, '..'), { recursive: true });
    await rm(path, { recursive: true, force: true });
    await writeFile(path, randomBytes(least - 1 + pick(600_000)));
  };
  const actions: Record<string, () => Promise<unknown>> = {
    write: () => write(pick(size)),
    append: () => write(size),
    'write far behind': () => write(size + pick(500_000)),
    'cut to nothing': () => truncate(path, 0),
    cut: () => truncate(path, pick(size + 1)),
    grow: () => truncate(path, size + pick(400_000)),
    punch: () => childOutput('fallocate', ['-p', '-o', String(pick(size + 1)), '-l', String(1 + pick(300_000)), path]),
    zero: async () => {
      await using file = await open(path, 'r+');
      await file.write(Buffer.alloc(200_000), 0, 200_000, pick(size + 1));
    },
    replace: async () => {
      await writeFile(`${path}.new`, randomBytes(least + pick(300_000)));
      await rename(`${path}.new`, path);
    },
    chmod: () => chmod(path, 0o600 + pick(64)),
    chown: () => chown(path, pick(70_000), pick(70_000)),
    touch: () => utimes(path, 1_000_000_000 + pick(1000), 1_000_000_000 + pick(1000)),
    attribute: () => childOutput('setfattr', ['-n', 'user.note', '-v', String(pick(1000)), path]),
    acl: () => childOutput('setfacl', ['-m', `u:${1 + pick(1000)}:r`, path]),
    link: async () => {
      await rm(`${path}.link`, { force: true });
      await link(path, `${path}.link`);
    },
    unlink: () => rm(`${path}.link`, { force: true }),
    rename: async () => {
      await mkdir(join(other, '..'), { recursive: true });
      await rm(other, { recursive: true, force: true });
      await rename(path, other).catch(() => undefined);
    },
    'rename a folder': () => rename(join(folder, 'a folder'), join(folder, `folder ${pick(3)}`)).catch(() => undefined),
    delete: () => rm(path),
    'to a folder': async () => {
      await rm(path);
      await mkdir(path);
      await writeFile(join(path, 'within'), randomBytes(least + 5));
    },
    'to a symlink': async () => {
      await rm(path);
      await symlink('/nowhere', path);
    },
  };
  const keys = Object.keys(actions);
  const action = exists ? (keys[pick(keys.length)] ?? 'write') : 'create';
  await (exists ? actions[action]?.() : fresh());
  return `${action} ${JSON.stringify(name)}`;
}

const runs = Number(process.env.BLOCK_HISTORIES ?? 4);
const first = Number(process.env.BLOCK_SEED ?? 1);
for (let seed = first; seed < first + runs; seed++) {
  t.test(`random history ${seed} of big files comes back at each run`, async (t) => {
    const bed = await Bed.make(t);
    const pick = random(seed * 7919);
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
