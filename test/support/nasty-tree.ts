import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const bytes = (folder: string, name: string): Buffer => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, 'latin1')]);

export interface NastyOptions {
  /** Owner of one file. false leaves the file out, where a container may use only some ids. */
  readonly highUid?: number | false;
  /** Whether device nodes may be made. */
  readonly devices?: boolean;
}

/** Fills a folder with what backups often lose. Needs root and a file system with ACLs, such as ext4. */
export async function makeNastyTree(folder: string, options: NastyOptions = {}): Promise<void> {
  await fs.mkdir(folder, { recursive: true });
  await plainFiles(folder);
  await oddNames(folder);
  await rights(folder, options.highUid ?? 3_000_000);
  await attributes(folder);
  await specials(folder, options.devices ?? true);
  await links(folder);
  await sparse(join(folder, 'sparse'));
  await times(folder);
}

async function plainFiles(folder: string): Promise<void> {
  await fs.mkdir(join(folder, 'empty-folder'));
  await fs.mkdir(join(folder, 'many/deep'), { recursive: true });
  await fs.writeFile(join(folder, 'empty-file'), '');
  for (let i = 0; i < 150; i++) await fs.writeFile(join(folder, 'many', `file-${i}`), `content of ${i}\n`.repeat(i));
  await fs.writeFile(join(folder, 'many/deep/last'), Buffer.alloc(300_000, 'deep'));
}

async function oddNames(folder: string): Promise<void> {
  const odd = join(folder, 'odd');
  await fs.mkdir(odd);
  const names = [
    'caf\xe9-latin-1',
    'new\nline',
    '-rf',
    '--help',
    ' blank ',
    'back\\slash',
    '*?[a]',
    'quote\'"$(id)`',
    '\\156ot-octal',
    'n'.repeat(255),
  ];
  for (const name of names) await fs.writeFile(bytes(odd, name), name);
  await fs.writeFile(join(odd, 'grüße-日本'), 'utf-8');
  const long = join(folder, ...['a', 'b', 'c', 'd'].map((letter) => letter.repeat(120)));
  await fs.mkdir(long, { recursive: true });
  await fs.writeFile(join(long, 'at-the-end-of-a-long-path'), 'far');
}

async function rights(folder: string, highUid: number | false): Promise<void> {
  const modes = { setuid: 0o4755, setgid: 0o2755, unreadable: 0o000, 'read-only': 0o444 };
  for (const [name, mode] of Object.entries(modes)) {
    await fs.writeFile(join(folder, name), name);
    await fs.chown(join(folder, name), 33, 44);
    await fs.chmod(join(folder, name), mode);
  }
  for (const [name, mode] of Object.entries({ 'setgid-folder': 0o2775, 'sticky-folder': 0o1777, 'closed-folder': 0o700 })) {
    await fs.mkdir(join(folder, name));
    await fs.writeFile(join(folder, name, 'inside'), name);
    await fs.chmod(join(folder, name), mode);
  }
  if (highUid === false) return;
  await fs.writeFile(join(folder, 'high-uid'), 'uid');
  await fs.chown(join(folder, 'high-uid'), highUid, highUid);
}

async function attributes(folder: string): Promise<void> {
  const file = async (name: string) => {
    await fs.writeFile(join(folder, name), name);
    return join(folder, name);
  };
  const user = await file('xattr-user');
  await run('setfattr', ['-n', 'user.comment', '-v', '0x00ff0a22', user]);
  await run('setfattr', ['-n', 'user.empty', user]);
  await run('setfattr', ['-n', 'trusted.backup', '-v', 'kept', await file('xattr-trusted')]);
  await run('setcap', ['cap_net_raw,cap_net_bind_service+ep', await file('capability')]);
  await run('setfacl', ['-m', 'u:1234:rw,g:55:r,m::rw', await file('acl')]);
  await fs.mkdir(join(folder, 'acl-folder'));
  await run('setfacl', ['-m', 'u:1234:rwx', '-m', 'd:u:1234:rwx,d:g:55:rx', join(folder, 'acl-folder')]);
  await fs.writeFile(join(folder, 'acl-folder/heir'), 'inherits');
  await run('setfattr', ['-n', 'user.folder', '-v', 'yes', join(folder, 'acl-folder')]);
}

async function specials(folder: string, devices: boolean): Promise<void> {
  await run('mkfifo', ['-m', '640', join(folder, 'fifo')]);
  if (!devices) return;
  await run('mknod', [join(folder, 'char-device'), 'c', '1', '3']);
  await run('mknod', [join(folder, 'block-device'), 'b', '7', '200']);
  await fs.chmod(join(folder, 'char-device'), 0o666);
}

async function links(folder: string): Promise<void> {
  await fs.mkdir(join(folder, 'links'));
  await fs.link(join(folder, 'many/file-7'), join(folder, 'links/hard'));
  await fs.link(join(folder, 'many/file-7'), join(folder, 'hard-at-top'));
  await fs.symlink('../many/file-3', join(folder, 'links/relative'));
  await fs.symlink('/etc/hostname', join(folder, 'links/absolute'));
  await fs.symlink('nowhere/at all', join(folder, 'links/dangling'));
  await fs.symlink('../many', join(folder, 'links/to-folder'));
  await fs.symlink(`../${'x'.repeat(200)}/${'y'.repeat(200)}`, join(folder, 'links/long-target'));
  await fs.symlink(Buffer.from('caf\xe9', 'latin1'), join(folder, 'links/latin-1-target'));
  await fs.lchown(join(folder, 'links/dangling'), 33, 33);
}

/** Makes a sparse file of 50 MB with three areas of data. */
async function sparse(file: string): Promise<void> {
  const handle = await fs.open(file, 'w');
  try {
    for (const offset of [0, 20_000_000, 39_999_999]) await handle.write(Buffer.alloc(5000, 'island'), 0, 5000, offset);
    await handle.truncate(50_000_000);
  } finally {
    await handle.close();
  }
}

/** Sets times with nanoseconds, old ones, and one before 1970. Folders come last, since a new entry changes their time. */
async function times(folder: string): Promise<void> {
  const stamps: Readonly<Record<string, string>> = {
    'many/file-1': '@1600000000.123456789',
    'many/file-2': '@1.000000001',
    'many/file-4': '@-86400.5',
    'many/file-5': '@4000000000',
    'links/dangling': '@1500000000.987654321',
    'empty-folder': '@1400000000.111111111',
    'many/deep': '@1300000000.222222222',
    many: '@1200000000.333333333',
  };
  for (const [name, stamp] of Object.entries(stamps)) await run('touch', ['-h', '-d', stamp, join(folder, name)]);
}

/** Changes a tree as between two runs: removals, a renamed folder, changed content, rights and attributes. */
export async function changeTree(folder: string): Promise<void> {
  for (const name of ['empty-file', 'many/file-9', 'links/hard', 'fifo']) await fs.rm(join(folder, name));
  await fs.rm(join(folder, 'closed-folder'), { recursive: true });
  await fs.rename(join(folder, 'many/deep'), join(folder, 'moved'));
  await fs.rename(join(folder, 'setgid'), join(folder, 'many/setgid-moved'));
  await fs.appendFile(join(folder, 'many/file-20'), 'appended\n');
  await fs.writeFile(join(folder, 'many/file-7'), 'seen through both hard links');
  await fs.chmod(join(folder, 'many/file-21'), 0o4711);
  await fs.chmod(join(folder, 'sticky-folder'), 0o755);
  await fs.rm(join(folder, 'many/file-22'));
  await fs.mkdir(join(folder, 'many/file-22'));
  await fs.writeFile(join(folder, 'many/file-22/new'), 'a folder where a file was');
  await fs.writeFile(bytes(join(folder, 'odd'), 'new-\xfc'), 'new');
  await run('setfacl', ['-b', join(folder, 'acl')]);
  await run('setfattr', ['-x', 'user.comment', join(folder, 'xattr-user')]);
  await run('setcap', ['-r', join(folder, 'capability')]);
  await fs.rm(join(folder, 'links/relative'));
  await fs.symlink('elsewhere', join(folder, 'links/relative'));
}
