/** Inode flags of a source are found while tar packs it, and set again after it was extracted; a manifest leads them nowhere else. */
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { type FlaggedEntry, manifestText, packLevel, parseManifest, setFlags } from '../../core/archive/index.js';
import { unlockTree } from '../../plugins/shared/mounts.js';
import { childOutput } from '../../plugins/shared/primitives/child.js';
import { chattr, flagsIn } from '../support/inode-flags.js';
import { archive, folderSource, manifest, never } from '../system/hostile/archive-samples.js';
import { extracted, withPath } from '../system/hostile/escape-bed.js';

async function temporary(t: Pick<Test, 'teardown'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'flags-'));
  await chmod(folder, 0o755);
  t.teardown(async () => {
    await unlockTree(folder);
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

/** Names as bytes, given as latin-1. */
const inBytes = (folder: string, name: string): Buffer => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name, 'latin1')]);
const chattrBytes = (folder: string, change: string, names: readonly string[]) =>
  childOutput('xargs', ['-0', 'chattr', change, '--'], {
    input: Buffer.concat(names.flatMap((name) => [inBytes(folder, name), Buffer.from('\0')])),
  });

interface Level {
  readonly bytes: Buffer;
  readonly flags: readonly string[];
  readonly leftOut: number;
  readonly found: readonly FlaggedEntry[];
}

/** `path flags`, sorted. */
const inWords = (entries: readonly FlaggedEntry[]): string[] => entries.map(({ path, flags }) => `${path} ${flags}`).sort();

async function packed(folder: string, snapshot: string, o: { since?: string; before?: Level; excludes?: string[] } = {}): Promise<Level> {
  const plan = {
    source: folderSource(folder, { excludes: o.excludes ?? [] }),
    ...{ compression: 'none' as const, snapshot, reference: Date.now(), looks: true },
    ...(o.since && { since: o.since }),
    ...(o.before && { flagsBefore: { flags: o.before.found, flags_left_out: o.before.leftOut } }),
  };
  const { stream, searched } = await packLevel(plan, never, () => undefined);
  const bytes = await buffer(stream);
  const { flags, flags_left_out } = await searched;
  return { bytes, flags: inWords(flags), leftOut: flags_left_out, found: flags };
}

t.test('files with flags are found in a base, and unchanged ones in later levels, too', async (t) => {
  const top = await temporary(t);
  const source = join(top, 'source');
  await mkdir(join(source, 'deep/er'), { recursive: true });
  for (const name of ['plain', 'fixed', 'log', 'deep/er/scratch', '-R', 'both', 'left out', 'goes', 'deep/loses'])
    await writeFile(join(source, name), name);
  await symlink('fixed', join(source, 'link'));
  await chattr('+i', ...['fixed', '-R', 'left out', 'goes', 'deep/loses', 'deep/er'].map((name) => join(source, name)));
  await chattr('+a', join(source, 'log'));
  await chattr('+ia', join(source, 'both'));
  await chattr('+d', join(source, 'deep/er/scratch'), source);
  const snapshot = join(top, 'base.snar');
  const excludes = ['./left out'];
  const base = await packed(source, snapshot, { excludes });
  const stay = ['-R i', '. d', 'both ia', 'deep/er i', 'deep/er/scratch d', 'fixed i', 'log a'];
  t.same(base.flags, [...stay, 'deep/loses i', 'goes i'].sort(), 'and nothing that is excluded');
  t.equal(base.leftOut, 0);
  await chattr('-i', join(source, 'goes'), join(source, 'deep/loses'), join(source, 'log'));
  await rm(join(source, 'goes'));
  await chattr('+i', join(source, 'plain'));
  const level = await packed(source, join(top, 'level.snar'), { since: snapshot, before: base, excludes });
  t.same(level.flags, [...stay, 'plain i'].sort(), 'what lost its flags or is gone is not among them any more');
});

/** Puts a `bwrap` first that does not find a program, for the time of `action`. */
async function without<T>(program: 'perl' | 'lsattr', folder: string, action: () => Promise<T>): Promise<T> {
  const script = `#!/bin/bash
args=("$@")
for at in "\${!args[@]}"; do [ "\${args[at]}" != ${program} ] || args[at]=not-there; done
exec /usr/bin/bwrap "\${args[@]}"
`;
  await writeFile(join(folder, 'bwrap'), script, { mode: 0o755 });
  return withPath(`${folder}:${process.env.PATH}`, action);
}

t.test('without perl, lsattr finds the same flags', async (t) => {
  const top = await temporary(t);
  const source = join(top, 'source');
  await mkdir(join(source, 'folder'), { recursive: true });
  const names = ['plain', 'fixed', 'folder/log', 'a\nb', 'caf\xe9'];
  for (const name of names) await writeFile(inBytes(source, name), name);
  await chattrBytes(source, '+ia', ['fixed', 'a\nb', 'folder']);
  await chattrBytes(source, '+ad', ['folder/log', 'caf\xe9']);
  const base = await packed(source, join(top, 'base.snar'));
  t.equal(base.found.length, 5);
  await without('perl', top, async () => {
    const again = await packed(source, join(top, 'again.snar'));
    t.same(again.flags, base.flags, 'in a base');
    const level = await packed(source, join(top, 'level.snar'), { since: join(top, 'again.snar'), before: base });
    t.same(level.flags, base.flags, 'in a level');
  });
  await without('lsattr', top, async () => {
    t.same((await packed(source, join(top, 'perl.snar'))).flags, base.flags, 'and it is asked only then');
  });
  t.same(
    (await readdir(top)).filter((name) => name.endsWith('.list')),
    [],
    'no list is left',
  );
});

t.test('files that cannot have flags have none, although their folder passes flags on', async (t) => {
  const top = await temporary(t);
  const source = join(top, 'source');
  await mkdir(source);
  await chattr('+d', source);
  await writeFile(join(source, 'file'), '');
  await symlink('file', join(source, 'link'));
  await childOutput('mkfifo', [join(source, 'pipe')]);
  const base = await packed(source, join(top, 'base.snar'));
  t.same(base.flags, ['. d', 'file d'], 'a link and a pipe are none that chattr changes');
});

t.test('any name comes back with its flags', async (t) => {
  const top = await temporary(t);
  const [source, target] = [join(top, 'source'), join(top, 'target')];
  const odd = [
    'caf\xe9',
    'a\nb',
    'a',
    '----i---- .',
    'x\n----i---- a',
    'back\\slash',
    'back\\\\slash',
    '\xc3\xa4 ',
    '\\n',
    '-i',
    '\'q"',
    '\x01\x7f',
  ];
  await mkdir(source);
  await mkdir(target);
  for (const name of odd) await writeFile(inBytes(source, name), name);
  await mkdir(inBytes(source, 'folder\n\xff'));
  const flagged = ['caf\xe9', 'a\nb', 'x\n----i---- a', 'back\\\\slash', '\xc3\xa4 ', '\\n', '-i', '\'q"', '\x01\x7f', 'folder\n\xff'];
  await chattrBytes(source, '+i', flagged);
  const base = await packed(source, join(top, 'base.snar'));
  const quoted = (name: string) => JSON.stringify(name);
  t.equal(base.found.length, flagged.length, base.flags.map(quoted).join(', '));
  t.ok(base.found.every(({ path }) => /^[\x20-\x7e]+$/.test(path)));
  t.equal(await extracted(base.bytes, target), 'fine');
  t.equal(await setFlags(target, base.found, never), '');
  const again = await packed(target, join(top, 'again.snar'));
  t.same(again.flags, base.flags);
  const changed = await packed(target, join(top, 'level.snar'), { since: join(top, 'again.snar'), before: again });
  t.same(changed.flags, base.flags, 'and a level knows them, too');
});

t.test('a manifest lists a thousand flags of a source, and counts the others', async (t) => {
  const top = await temporary(t);
  const source = join(top, 'source');
  await mkdir(source);
  const names = [...Array(1300).keys()].map((n) => join(source, `file-${n}`));
  for (const name of names) await writeFile(name, '');
  await chattr('+d', ...names);
  const base = await packed(source, join(top, 'base.snar'));
  t.same([base.found.length, base.leftOut], [1000, 300]);
  const level = await packed(source, join(top, 'level.snar'), { since: join(top, 'base.snar'), before: base });
  t.ok(level.leftOut >= 300, 'a level goes on telling it');
});

t.test('a file system without flags has none, and setting them does not fail', async (t) => {
  const top = await temporary(t);
  const mount = join(top, 'mount');
  await mkdir(mount);
  await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', mount]);
  t.teardown(() => childOutput('umount', [mount]));
  await writeFile(join(mount, 'file'), '');
  t.same((await packed(mount, join(top, 'base.snar'))).flags, []);
  t.type(await setFlags(mount, [{ path: 'file', flags: 'iad' }], never), 'string');
});

t.test('flags of a manifest never reach a file outside the source', async (t) => {
  const top = await temporary(t);
  const [tree, outside] = [join(top, 'tree'), join(top, 'outside')];
  for (const folder of [tree, outside]) await mkdir(folder);
  for (const name of ['file', 'victim']) await writeFile(join(outside, name), name);
  await symlink('../outside', join(tree, 'near'));
  await symlink(outside, join(tree, 'far'));
  await symlink(join(outside, 'victim'), join(tree, 'last'));
  for (const name of ['-R', '+i', 'inside']) await writeFile(join(tree, name), name);
  const paths = ['near/file', 'far/victim', 'last', '../outside/file', `${outside}/file`, 'near', 'absent', '-R', '+i', '.'];
  const said = await setFlags(
    tree,
    paths.map((path) => ({ path, flags: 'i' })),
    never,
  ); // even of one that was not parsed
  t.match(said, /No such file|supported/, 'what could not be set is told');
  t.same(await flagsIn(outside), [], 'nothing outside was touched');
  t.same(await flagsIn(tree), ['+i i', '-R i', '. i'].sort(), 'a name is never an option');
});

t.test('a manifest with a path outside its source is refused as damaged', async (t) => {
  const parsed =
    (path: string, flags = 'i') =>
    () =>
      parseManifest(
        Buffer.from(manifestText(manifest('2026-11-24_11-19-08', { archives: [archive('image.tar.zst', { flags: [{ path, flags }] })] }))),
        'it',
      );
  for (const path of ['.', 'a', 'a/b', '-i', '..a', 'a\\012b', 'caf\\303\\251', '\\\\']) t.doesNotThrow(parsed(path), path);
  for (const path of ['..', '../a', 'a/../b', '/a', 'a//b', 'a/', './a', '', 'a\0b', 'a\\000b', '\\056\\056/a', '\\057a', 'é', 'a\nb'])
    t.throws(parsed(path), { code: 'damaged' }, JSON.stringify(path));
  for (const flags of ['', 'R', 'i -R', '+i', 'iiiii', 'e']) t.throws(parsed('a', flags), { code: 'damaged' }, flags);
});
