import { Readable } from 'node:stream';
import { defaultNames, type NameRules } from '../../../core/contract/index.js';
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
  'new\nline',
  `long-${'n'.repeat(200)}`,
];

/** Checks of names that break shells, protocols and parsers, and of the target's own rules for names. */
export const names: readonly Check[] = [
  { title: 'odd names of files and folders are stored as they are or refused', run: oddNames },
  { title: 'every character that the rules for names refuse is refused', run: refusedCharacters },
  { title: 'every other character is stored', run: otherCharacters },
  { title: 'the longest name is stored, and a longer one is refused', run: longestName },
  { title: 'names that differ in case only are two files, or the second is refused', run: caseOfNames },
  { title: 'bad paths are refused', run: badPaths },
];

const rulesOf = ({ target }: Bench): NameRules => target.supports.names ?? defaultNames;

const breaks = (name: string, { refused, refusedAtEnd, longest }: NameRules): boolean =>
  [...name].some((char) => refused.includes(char)) || refusedAtEnd.includes(name.at(-1) ?? '') || Buffer.byteLength(name) > longest;

/** Stores a file of that name, and reads it back. */
async function keep({ t, target, folder }: Bench, name: string): Promise<void> {
  await store(target, `${folder}/${name}`, name);
  t.equal(String(await read(await target.get(`${folder}/${name}`, { signal: never() }))), name, JSON.stringify(name));
  t.ok(
    (await entries(target, folder)).some((entry) => entry.name === name),
    'listed to the letter',
  );
}

async function refusedCharacters(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const { refused: inside, refusedAtEnd } = rulesOf(bench);
  const wrong = [...[...inside].map((char) => `a${char}b`), ...[...refusedAtEnd].map((char) => `a${char}`)];
  for (const name of wrong) {
    await refused(t, store(target, `${folder}/${name}`, 'x'), ['invalid'], `put ${JSON.stringify(name)}`);
    await refused(t, store(target, `${folder}/${name}/f`, 'x'), ['invalid'], `put into ${JSON.stringify(name)}`);
  }
  t.same(await entries(target, folder), [], 'nothing is left');
}

const charactersOf = (from: number, to: number): string =>
  String.fromCharCode(...Array.from({ length: to - from + 1 }, (_, n) => from + n));

async function otherCharacters(bench: Bench): Promise<void> {
  const { refused, refusedAtEnd } = rulesOf(bench);
  const kept = (characters: string) => [...characters].filter((char) => !refused.includes(char) && char !== '/').join('');
  const printed = `${charactersOf(0x20, 0x5b)}${charactersOf(0x5d, 0x7e)}\\`; // the backslash comes last, so that it escapes nothing
  for (const name of [kept(printed), kept(`${charactersOf(0x01, 0x1f)}\x7f`)]) if (name !== '') await keep(bench, `a${name}b`);
  for (const char of kept(' .')) if (!refusedAtEnd.includes(char)) await keep(bench, `end${char}`);
}

async function longestName(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const { longest } = rulesOf(bench);
  await keep(bench, 'n'.repeat(longest));
  for (const name of ['n'.repeat(longest + 1), 'ü'.repeat(Math.floor(longest / 2) + 1)]) {
    await refused(t, store(target, `${folder}/${name}`, 'x'), ['invalid'], `put of a name of ${Buffer.byteLength(name)} bytes`);
  }
}

async function caseOfNames(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  await store(target, `${folder}/case`, 'small');
  const second = store(target, `${folder}/CASE`, 'large');
  if (rulesOf(bench).caseSensitive) await second;
  else await second.catch((error: unknown) => refused(t, Promise.reject(error), ['exists'], 'the second'));
  t.equal(String(await read(await target.get(`${folder}/case`, { signal: never() }))), 'small', 'the first has its own bytes');
  if (
    await second.then(
      () => true,
      () => false,
    )
  )
    t.equal(String(await read(await target.get(`${folder}/CASE`, { signal: never() }))), 'large', 'and so has the second');
}

async function oddNames(bench: Bench): Promise<void> {
  const { t, target, folder } = bench;
  const kept: string[] = [];
  for (const name of odd) {
    const path = `${folder}/${name}/${name}`;
    if (breaks(name, rulesOf(bench))) {
      await refused(t, store(target, path, name), ['invalid'], `cannot be kept: ${JSON.stringify(name)}`);
      continue;
    }
    await store(target, path, name);
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
