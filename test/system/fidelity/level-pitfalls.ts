/** Changes between two runs that levels easily miss, lose or undo. Each trick has a folder of its own. All tricks are made before a base
 *  and changed before the next level. Afterwards each is checked alone. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface Trick {
  readonly title: string;
  /** Shell lines that make the state of the base, in the trick's folder. */
  readonly before: string;
  readonly change: string;
}

/** rm and mkdir in between give new folders the inode numbers of old ones, as the upgrade of a package or a restore does. */
const reuse =
  'cp -a . ../aside-$$; find . -mindepth 1 -delete; for i in $(seq 40 -1 1); do cp -a ../aside-$$/d$i .; done; rm -r ../aside-$$';

export const tricks: readonly Trick[] = [
  {
    title: 'a change whose mtime is set back is caught',
    before: 'echo old >f; touch -d @1500000000.5 f',
    change: 'echo new >f; touch -d @1500000000.5 f',
  },
  {
    title: 'an old file that is moved over a newer one is caught',
    before: 'echo newer >f; echo older >.g; touch -d @1000000000 .g',
    change: 'mv .g f',
  },
  {
    title: 'only rights, only an owner, only an attribute, only an ACL',
    before: 'echo x >mode; echo x >owner; echo x >attribute; echo x >acl; mkdir folder',
    change: 'chmod 4711 mode; chown 7:8 owner; setfattr -n user.a -v b attribute; setfacl -m u:9:r acl; chmod 2770 folder',
  },
  {
    title: 'a hard link across levels: made, moved, removed',
    before: 'mkdir a b; echo one >a/one; echo two >a/two; ln a/two b/two; echo three >a/three; ln a/three b/three; ln b/three b/3',
    change: 'ln a/one b/one; mv b/two b/zwei; rm b/three; echo more >>a/two',
  },
  {
    title: 'a folder that is renamed, and another in its place',
    before: 'mkdir a; echo a >a/a',
    change: 'mv a b; mkdir a; echo new >a/new',
  },
  {
    title: 'a folder that takes the place of one that is removed',
    before: 'mkdir current next; echo 1 >current/1; echo 2 >next/2',
    change: 'rm -r current; mv next current',
  },
  {
    title: 'a folder that takes the place of a file, and a file that of a folder',
    before: 'mkdir a c; echo a >a/a; echo b >b; echo c >c/c',
    change: 'rm b; mv a b; rm -r c; echo file >c',
  },
  {
    title: 'folders that rotate',
    before: 'mkdir daily.0 daily.1 daily.2; for i in 0 1 2; do echo $i >daily.$i/f; done',
    change: 'rm -r daily.2; mv daily.1 daily.2; mv daily.0 daily.1; mkdir daily.0; echo new >daily.0/f',
  },
  {
    title: 'a chain of renames to a new name',
    before: 'mkdir a b; echo a >a/a; echo b >b/b',
    change: 'mv b c; mv a b; mkdir a; echo n >a/n',
  },
  { title: 'two folders that change places', before: 'mkdir a b; echo a >a/a; echo b >b/b', change: 'mv a x; mv b a; mv x b' },
  {
    title: 'a folder that moves into what was inside it',
    before: 'mkdir -p a/b; echo a >a/a; echo b >a/b/b',
    change: 'mv a/b b; mv a b/a',
  },
  {
    title: 'a folder with old files that comes from elsewhere',
    before: 'mkdir ../../../outside; echo old >../../../outside/old',
    change: 'mv ../../../outside came',
  },
  {
    title: 'folders that get the inodes of others',
    before: 'for i in $(seq 40); do mkdir -p d$i/e; echo $i >d$i/e/f; done',
    change: reuse,
  },
  {
    title: 'a link in place of a folder, and a folder in place of a link',
    before: 'mkdir a b; echo a >a/a; ln -s b link',
    change: 'rm -r a; ln -s b a; rm link; mkdir link; echo l >link/l',
  },
  {
    title: 'a file that is removed and made again with the same size and time',
    before: 'echo 1 >f; touch -d @1500000000 f',
    change: 'rm f; echo 2 >f; touch -d @1500000000 f',
  },
  {
    title: 'holes that are filled, and data that becomes a hole',
    before: 'truncate -s 9M f; dd if=/dev/urandom of=g bs=1M count=3 status=none',
    change: 'dd if=/dev/urandom of=f bs=1M count=1 seek=4 conv=notrunc status=none; fallocate -p -o 1M -l 1M g',
  },
  {
    title: 'a folder with its time set back though its entries changed',
    before: 'mkdir a; echo 1 >a/1; touch -d @1400000000 a',
    change: 'rm a/1; echo 2 >a/2; touch -d @1400000000 a',
  },
  {
    title: 'odd names that go and come',
    before: 'touch -- "a\nb" "-rf"; mkdir " x "',
    change: 'rm "./a\nb"; rmdir " x "; mkdir -- "-d"; touch "*"',
  },
  { title: 'a folder that stays as it was', before: 'mkdir a; echo a >a/a; touch -d @1234567890.123456789 a/a a', change: 'true' },
];

/** Alone, because it makes a run read the whole source again. */
export const renamedLinks: Trick = {
  title: 'hard links to a file in a folder that is renamed',
  before: 'mkdir a b; echo x >a/x; ln a/x b/x; echo y >a/y; ln a/y a/z',
  change: 'mv a c',
};

const run = promisify(execFile);
const folderOf = (folder: string, index: number): string => join(folder, `trick-${index}`);

async function inEach(folder: string, all: readonly Trick[], lines: (trick: Trick) => string): Promise<void> {
  for (const [index, trick] of all.entries()) {
    await fs.mkdir(folderOf(folder, index), { recursive: true });
    const script = lines(trick).replaceAll('\\n', '\n');
    await run('/bin/sh', ['-e', '-c', script], { cwd: folderOf(folder, index) });
  }
}

/** In a folder of the source, because one trick needs a folder beside its own. */
export const makeTricks = (folder: string, all = tricks): Promise<void> => inEach(folder, all, ({ before }) => before);
export const changeTricks = (folder: string, all = tricks): Promise<void> => inEach(folder, all, ({ change }) => change);

/** The differences of this trick. The lines name entries relative to the parent of the tricks' folder. */
export function ofTrick(lines: readonly string[], index: number): string[] {
  return lines.filter((line) => line.includes(`trick-${index}/`) || line.includes(`trick-${index}"`));
}
