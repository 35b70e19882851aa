/** More changes of trees between runs. A restore of the levels must bring each state back. */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Reverts some changes of changeTree and makes more: names come back with another type. */
export async function changeTreeAgain(folder: string): Promise<void> {
  await fs.rename(join(folder, 'moved'), join(folder, 'many/deep')); // back to where it was
  await fs.rename(join(folder, 'links'), join(folder, 'a-links'));
  await fs.rename(join(folder, 'odd'), join(folder, 'links')); // one folder takes the name of another
  await fs.mkdir(join(folder, 'odd'));
  await fs.writeFile(join(folder, 'odd/new-in-an-old-name'), 'odd');
  await fs.rm(join(folder, 'many/file-22'), { recursive: true });
  await fs.writeFile(join(folder, 'many/file-22'), 'a file again');
  await fs.symlink('../many/file-1', join(folder, 'empty-file')); // a link where a file was
  await run('mkfifo', [join(folder, 'closed-folder')]); // a pipe where a folder was
  await fs.link(join(folder, 'many/file-30'), join(folder, 'many/deep/hard-30'));
  await fs.rm(join(folder, 'hard-at-top'));
  for (let i = 40; i < 60; i++) await fs.rm(join(folder, 'many', `file-${i}`));
  await run('setcap', ['cap_sys_time+ep', join(folder, 'capability')]);
  await run('setfattr', ['-n', 'user.later', '-v', '0x0100', join(folder, 'xattr-user')]);
  await fs.chown(join(folder, 'setgid-folder'), 1234, 2345);
  await fs.truncate(join(folder, 'sparse'), 60_000_000);
  await run('touch', ['-h', '-d', '@1700000000.444444444', join(folder, 'many/file-1')]);
  await run('touch', ['-h', '-d', '@1100000000.555555555', join(folder, 'many')]);
}

/** A few difficult entries, for sources without a whole nasty tree. */
export async function makeSmallTree(folder: string): Promise<void> {
  await fs.mkdir(join(folder, 'a/b'), { recursive: true });
  await fs.writeFile(join(folder, 'a/b/owned'), 'owned');
  await fs.chown(join(folder, 'a/b/owned'), 33, 44);
  await fs.chmod(join(folder, 'a/b/owned'), 0o4750);
  await fs.writeFile(join(folder, 'ballast'), Buffer.alloc(200_000, 'ballast')); // so that a change is less than half of it
  await fs.link(join(folder, 'a/b/owned'), join(folder, 'hard'));
  await fs.symlink('a/b/owned', join(folder, 'soft'));
  await fs.writeFile(join(folder, 'attributed'), 'x');
  await run('setfattr', ['-n', 'user.small', '-v', '0x00ff', join(folder, 'attributed')]);
  await run('touch', ['-d', '@1300000000.123456789', join(folder, 'attributed'), join(folder, 'a/b')]);
}

/** Changes a small tree: files appear and disappear, a folder gets another name. */
export async function changeSmallTree(folder: string, round: number): Promise<void> {
  await fs.rename(join(folder, round === 1 ? 'a' : 'a-1'), join(folder, `a-${round}`));
  await fs.rm(join(folder, round === 1 ? 'hard' : 'new-1'));
  await fs.writeFile(join(folder, `new-${round}`), `of round ${round}`);
  await fs.appendFile(join(folder, 'attributed'), `${round}`);
}
