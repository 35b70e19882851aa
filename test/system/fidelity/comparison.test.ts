import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { changeTree, makeNastyTree } from '../../support/nasty-tree.js';

const run = promisify(execFile);
const root = process.getuid?.() === 0;
const bytes = (folder: string, name: string) => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, 'latin1')]);

const damages: Readonly<Record<string, (folder: string) => Promise<unknown>>> = {
  'a missing file': (folder) => fs.rm(join(folder, 'empty-file')),
  'a missing file with a latin-1 name': (folder) => fs.rm(bytes(`${folder}/odd`, 'caf\xe9-latin-1')),
  'a new file': (folder) => fs.writeFile(join(folder, 'odd/new\nfile'), ''),
  'another type': (folder) =>
    fs.rm(join(folder, 'empty-folder'), { recursive: true }).then(() => fs.writeFile(join(folder, 'empty-folder'), '')),
  'a lost setuid bit': (folder) => fs.chmod(join(folder, 'setuid'), 0o755),
  'another mode of a folder': (folder) => fs.chmod(join(folder, 'sticky-folder'), 0o777),
  'another owner': (folder) => fs.chown(join(folder, 'high-uid'), 262_143, 3_000_000),
  'another owner of a symlink': (folder) => fs.lchown(join(folder, 'links/dangling'), 0, 0),
  'a mtime one nanosecond off': (folder) => run('touch', ['-d', '@1600000000.123456788', join(folder, 'many/file-1')]),
  'another mtime of a folder': (folder) => run('touch', ['-d', '@5', join(folder, 'empty-folder')]),
  'another device': (folder) => fs.rm(join(folder, 'char-device')).then(() => run('mknod', [join(folder, 'char-device'), 'c', '1', '5'])),
  'a lost xattr': (folder) => run('setfattr', ['-x', 'user.comment', join(folder, 'xattr-user')]),
  'another trusted xattr': (folder) => run('setfattr', ['-n', 'trusted.backup', '-v', 'x', join(folder, 'xattr-trusted')]),
  'a lost ACL': (folder) => run('setfacl', ['-b', join(folder, 'acl')]),
  'a lost default ACL': (folder) => run('setfacl', ['-k', join(folder, 'acl-folder')]),
  'a lost capability': (folder) => run('setcap', ['-r', join(folder, 'capability')]),
  'a hard link that became a copy': async (folder) => {
    await fs.rename(join(folder, 'links/hard'), join(folder, 'links/away'));
    await run('cp', ['-p', join(folder, 'links/away'), join(folder, 'links/hard')]);
    await fs.rm(join(folder, 'links/away'));
  },
  'another symlink target': (folder) =>
    fs.rm(join(folder, 'links/absolute')).then(() => fs.symlink('/etc/hosts', join(folder, 'links/absolute'))),
  'a hole filled with zeros': (folder) =>
    run('cp', ['-a', '--sparse=never', join(folder, 'sparse'), join(folder, 'full')]).then(() =>
      fs.rename(join(folder, 'full'), join(folder, 'sparse')),
    ),
  'one flipped bit': async (folder) => {
    const { atime, mtime } = await fs.stat(join(folder, 'moved-mtime-file'));
    await fs.writeFile(join(folder, 'moved-mtime-file'), 'B');
    await fs.utimes(join(folder, 'moved-mtime-file'), atime, mtime);
  },
};

t.test('the comparison finds every kind of difference', { skip: root ? false : 'needs root' }, async (t) => {
  const top = await fs.mkdtemp(join(tmpdir(), 'fidelity-'));
  t.teardown(() => fs.rm(top, { recursive: true, force: true }));
  const first = join(top, 'first');
  await makeNastyTree(first);
  await fs.writeFile(join(first, 'moved-mtime-file'), 'A');
  await fs.utimes(join(first, 'moved-mtime-file'), 1000, 1000);
  const before = await snapshotOf(first);
  t.ok(before.size > 190, `${before.size} entries`);
  t.ok(
    [...before.keys()].some((name) => name.includes('\xe9')),
    'byte names are kept',
  );
  t.ok(/security\.capability=0x/.test(before.get('capability')?.attributes ?? ''), 'capability is read');
  t.ok(/posix_acl_default=0x/.test(before.get('acl-folder')?.attributes ?? ''), 'default ACL is read');
  t.ok((before.get('sparse')?.blocks ?? 9999n) < 200n, 'the sparse file is sparse');
  for (const [what, damage] of Object.entries(damages)) {
    const copy = join(top, 'copy');
    await run('cp', ['-a', '--', first, copy]);
    t.same(differences(before, await snapshotOf(copy)), [], `a true copy has none (${what})`);
    await damage(copy);
    t.ok(differences(before, await snapshotOf(copy)).length > 0, what);
    await fs.rm(copy, { recursive: true });
  }
});

t.test('the comparison finds every change of changeTree', { skip: root ? false : 'needs root' }, async (t) => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'fidelity-'));
  t.teardown(() => fs.rm(folder, { recursive: true, force: true }));
  await makeNastyTree(folder, { highUid: false, devices: false });
  const before = await snapshotOf(folder);
  t.notOk(before.has('high-uid') || before.has('char-device'), 'options leave out what they say');
  await changeTree(folder);
  const found = differences(before, await snapshotOf(folder)).join('\n');
  for (const part of [
    '"many/deep": missing',
    '"moved/last": was not there',
    '"many/file-21": mode was',
    '"acl": ',
    '"capability": attributes',
  ]) {
    t.ok(found.includes(part), part);
  }
});
