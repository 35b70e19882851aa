/** A folder for the extraction of hostile archives, and files beside it that no archive may touch. */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Test } from 'tap';
import { extractLevel } from '../../../core/archive/index.js';
import { archive, codeOf, never, temporary } from './archive-samples.js';

/** During `action`, PATH begins with a `bwrap` that runs tar without a sandbox. */
export async function unconfined<T>(t: Test, action: () => Promise<T>): Promise<T> {
  const folder = await temporary(t);
  const script = `#!/bin/sh
case " $* " in *' -- tar '*) ;; *) exec /usr/bin/bwrap "$@" ;; esac
while [ "$1" != tar ]; do
  case $1 in
    --bind|--ro-bind) case $3 in /data*) tree=$2 ;; /list) list=$2 ;; /snapshot) snapshot=$2 ;; esac ;;
  esac
  shift
done
shift
for one; do
  shift
  case $one in
    --index-file=*) one=--index-file=$list ;;
    --listed-incremental=/snapshot) one=--listed-incremental=$snapshot ;;
  esac
  set -- "$@" "$one"
done
cd "$tree" || exit 99 # what deletes must know where it is
exec tar "$@"
`;
  await writeFile(join(folder, 'bwrap'), script, { mode: 0o755 });
  return withPath(`${folder}:${process.env.PATH}`, action);
}

export async function withPath<T>(path: string, action: () => Promise<T>): Promise<T> {
  const { PATH } = process.env;
  process.env.PATH = path;
  try {
    return await action();
  } finally {
    process.env.PATH = PATH;
  }
}

export interface EscapeBed {
  /** Where archives are extracted. */
  readonly tree: string;
  readonly outside: string;
  /** Attributes that change whenever a file outside is touched. */
  look(): readonly string[];
}

/** Makes a folder to extract into, and beside it a folder that no archive may touch. */
export async function escapeBed(t: Test): Promise<EscapeBed> {
  const top = await temporary(t);
  const [tree, outside] = [join(top, 'tree'), join(top, 'outside')];
  await mkdir(tree);
  await mkdir(join(outside, 'sub'), { recursive: true });
  for (const name of ['keep', 'sub/inner']) await writeFile(join(outside, name), 'kept');
  const stamp = (path: string): string[] => {
    const { mode, uid, nlink, size, mtimeNs, ctimeNs, ino } = lstatSync(path, { bigint: true });
    const below = path === tree || !lstatSync(path).isDirectory() ? [] : readdirSync(path);
    const own = path === tree ? [] : [`${path}: ${[mode, uid, nlink, size, mtimeNs, ctimeNs, ino].join(' ')}`];
    return [...own, ...below.flatMap((name) => stamp(join(path, name)))];
  };
  return { tree, outside, look: () => stamp(top) };
}

/** Extracts crafted bytes as if a manifest named them. */
export function extracted(bytes: Buffer, tree: string): Promise<string> {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const entry = archive('x.tar', { compression: 'none', sha256, stored_bytes: bytes.length });
  return codeOf(extractLevel(entry, 'folder', tree, Readable.from([bytes]), never));
}
