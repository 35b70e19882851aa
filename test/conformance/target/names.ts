import { Readable } from 'node:stream';
import { type Bench, type Check, entries, never, read, refused, store } from './support.js';

const odd = [
  'with space',
  ' leading space',
  "quote'single",
  'quote"double',
  'semi;colon',
  'dollar$HOME`id`',
  'amp&pipe|',
  '-rf',
  '--help',
  'ümläut é',
  '日本語',
  'emoji 📦',
  'e\u0301 decomposed',
  '%41%2e',
  'back\\slash',
  'star*?[a]',
  '#hash~',
  '.hidden',
  '...',
  'No such file or directory',
  'NT_STATUS_DISK_FULL',
  'Permission denied (publickey)',
  `long-${'n'.repeat(200)}`,
];
/** What smb servers refuse; a target that cannot keep a name says `invalid`. */
const mayBeRefused = /["|*?\\<>:]/;

/** Names that trip shells, protocols and parsers. */
export function names(o: { newline: boolean }): readonly Check[] {
  const list = o.newline ? [...odd, 'new\nline'] : odd;
  return [
    { title: 'odd names of files and folders', run: (bench) => oddNames(bench, list) },
    { title: 'bad paths are refused', run: badPaths },
  ];
}

async function oddNames({ t, target, folder }: Bench, list: readonly string[]): Promise<void> {
  const kept: string[] = [];
  for (const name of list) {
    const path = `${folder}/${name}/${name}`;
    try {
      await store(target, path, name);
    } catch (error) {
      if (!mayBeRefused.test(name)) throw error;
      await refused(t, Promise.reject(error), ['invalid', 'unsupported'], `cannot be kept: ${JSON.stringify(name)}`);
      continue;
    }
    kept.push(name);
    t.equal(String(await read(await target.get(path, { signal: never() }))), name, JSON.stringify(name));
    t.same(await target.stat(path), { name, folder: false, size: Buffer.byteLength(name) });
    t.same(
      (await entries(target, `${folder}/${name}`)).map((entry) => entry.name),
      [name],
    );
  }
  t.same(
    (await entries(target, folder)).map(({ name }) => name),
    [...kept].sort((a, b) => (a < b ? -1 : 1)),
    'all are listed',
  );
  for (const name of kept) await target.remove(`${folder}/${name}`);
  t.same(await entries(target, folder), [], 'all are removed');
}

async function badPaths({ t, target, folder }: Bench): Promise<void> {
  const bad = [
    '..',
    '../x',
    `${folder}/../../x`,
    `${folder}/..`,
    '/etc/x',
    `${folder}//x`,
    `${folder}/`,
    `${folder}/a\0b`,
    './x',
    `${folder}/.`,
  ];
  for (const path of bad) {
    const shown = JSON.stringify(path);
    await refused(t, target.put(path, Readable.from(['x']), { signal: never() }), ['invalid'], `put ${shown}`);
    await refused(t, target.get(path, { signal: never() }).then(read), ['invalid'], `get ${shown}`);
    await refused(t, target.stat(path), ['invalid'], `stat ${shown}`);
    await refused(t, entries(target, path), ['invalid'], `list ${shown}`);
    await refused(t, target.remove(path), ['invalid'], `remove ${shown}`);
  }
  await refused(t, target.put('', Readable.from(['x']), { signal: never() }), ['invalid'], 'put without a name');
  await refused(t, target.remove(''), ['invalid'], 'the top is not removed');
}
