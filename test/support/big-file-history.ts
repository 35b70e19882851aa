/** Random histories of big files: whatever may happen to one between two backups. */
import { randomBytes } from 'node:crypto';
import { chmod, chown, link, lstat, mkdir, open, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { childOutput } from '../../plugins/shared/primitives/child.js';

/** Least size of a big file in these histories, bytes. */
export const least = 200 << 10;

/** A generator of numbers below a limit, the same for each seed. */
export function random(seed: number): (below: number) => number {
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

/** Stores a byte through a mapping. */
const store = `import mmap, sys
with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as mapped: mapped[int(sys.argv[2])] = int(sys.argv[3])`;

interface Changed {
  readonly folder: string;
  readonly path: string;
  /** Another name, which may be taken. */
  readonly other: string;
  readonly size: number;
  pick(below: number): number;
}
type Actions = Readonly<Record<string, () => Promise<unknown>>>;

function contentActions({ path, size, pick }: Changed): Actions {
  const write = async (position: number) => {
    const bytes = randomBytes(1 + pick(150_000));
    await using file = await open(path, 'r+');
    await file.write(bytes, 0, bytes.length, position);
  };
  return {
    write: () => write(pick(size)),
    append: () => write(size),
    'write far behind': () => write(size + pick(500_000)),
    map: () => (size > 0 ? childOutput('python3', ['-c', store, path, String(pick(size)), String(1 + pick(255))]) : write(0)),
    'cut to nothing': () => truncate(path, 0),
    cut: () => truncate(path, pick(size + 1)),
    grow: () => truncate(path, size + pick(400_000)),
    punch: () => childOutput('fallocate', ['-p', '-o', String(pick(size + 1)), '-l', String(1 + pick(300_000)), path]),
    zero: async () => {
      await using file = await open(path, 'r+');
      await file.write(Buffer.alloc(200_000), 0, 200_000, pick(size + 1));
    },
  };
}

const attributeActions = ({ path, pick }: Changed): Actions => ({
  chmod: () => chmod(path, 0o600 + pick(64)),
  chown: () => chown(path, pick(70_000), pick(70_000)),
  touch: () => utimes(path, 1_000_000_000 + pick(1000), 1_000_000_000 + pick(1000)),
  attribute: () => childOutput('setfattr', ['-n', 'user.note', '-v', String(pick(1000)), path]),
  acl: () => childOutput('setfacl', ['-m', `u:${1 + pick(1000)}:r`, path]),
});

const nameActions = ({ folder, path, other, pick }: Changed): Actions => ({
  replace: async () => {
    await writeFile(`${path}.new`, randomBytes(least + pick(300_000)));
    await rename(`${path}.new`, path);
  },
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
});

async function create(path: string, pick: (below: number) => number): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true });
  await rm(path, { recursive: true, force: true });
  await writeFile(path, randomBytes(least - 1 + pick(600_000)));
}

/** Changes one file. @returns what was done */
export async function change(folder: string, pick: (below: number) => number): Promise<string> {
  const name = names[pick(names.length)] ?? 'db';
  const path = join(folder, name);
  const other = join(folder, names[pick(names.length)] ?? 'db');
  // A symlink is replaced, never followed: it leads out of the test's folder.
  const found = await lstat(path).catch(() => undefined);
  if (!found?.isFile()) {
    await create(path, pick);
    return `create ${JSON.stringify(name)}`;
  }
  const changed = { folder, path, other, size: found.size, pick };
  const actions: Actions = { ...contentActions(changed), ...attributeActions(changed), ...nameActions(changed) };
  const keys = Object.keys(actions);
  const action = keys[pick(keys.length)] ?? 'write';
  await actions[action]?.();
  return `${action} ${JSON.stringify(name)}`;
}
