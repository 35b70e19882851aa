import t from 'tap';
import {
  archiveName,
  besideArchive,
  isBaseName,
  isRunName,
  manifestText,
  parseManifest,
  recordFolder,
  runName,
} from '../../core/archive/index.js';
import { PluginError } from '../../core/contract/index.js';
import { archive, hash, manifest, sealed, snapshot } from '../system/hostile/archive-samples.js';

const whole = manifest('2026-11-24_11-19-08');
const text = manifestText(whole);

/** What reading it says: 'whole', or the code of the error. */
function verdict(content: string | Buffer): string {
  try {
    parseManifest(Buffer.from(content), 'x/manifest.json');
    return 'whole';
  } catch (error) {
    return error instanceof PluginError ? error.code : `not coded: ${error}`;
  }
}

t.test('a manifest reads back as written', async (t) => {
  t.same(parseManifest(Buffer.from(text), 'here'), whole);
  t.match(text, /^\{[^\n]*\}\n[0-9a-f]{64}\n$/, 'JSON on the first line, its hash on the second');
  const odd = manifest('2026-11-24_11-19-08', { job: { id: 1, name: 'line\nbreak \u2028 "quoted" ü' } });
  t.same(parseManifest(Buffer.from(manifestText(odd)), 'here'), odd, 'a line break in a name is no line break in the file');
});

t.test('a manifest cut anywhere is damaged', async (t) => {
  const wrong: number[] = [];
  // The line break at its very end is no part of what the hash covers
  for (let length = 0; length < text.length - 1; length++) if (verdict(text.slice(0, length)) !== 'damaged') wrong.push(length);
  t.same(wrong, []);
  t.equal(verdict(text.slice(0, -1)), 'whole', 'but for the last line break');
});

t.test('a flipped bit anywhere is found', async (t) => {
  const bytes = Buffer.from(text);
  const wrong: number[] = [];
  for (let at = 0; at < bytes.length - 1; at++) {
    const flipped = Buffer.from(bytes);
    flipped[at] = (flipped[at] ?? 0) ^ 1;
    if (verdict(flipped) !== 'damaged') wrong.push(at);
  }
  t.same(wrong, []);
});

t.test('bytes before, inside or in place of a manifest are found', async (t) => {
  const [body = '', sum = ''] = text.split('\n');
  const cases = {
    before: ` ${text}`,
    between: `${body}\n\n${sum}\n`,
    twice: `${text}${body}x\n`,
    empty: '',
    zeros: '\0'.repeat(text.length),
  };
  for (const [name, content] of Object.entries({ ...cases, twice: `${body}${text}` })) t.equal(verdict(content), 'damaged', name);
  t.equal(verdict(text.replaceAll('\n', '\r\n')), 'damaged', 'rewritten by an editor');
});

t.test('a body that is no JSON is damaged even with a right hash', async (t) => {
  for (const body of ['', '{', 'null', '[]', '"text"', '1', 'undefined']) t.equal(verdict(sealed(body)), 'damaged', JSON.stringify(body));
});

t.test('a newer format is refused, never guessed at', async (t) => {
  for (const format of [2, 0, '1', null, undefined, 1.5])
    t.equal(verdict(sealed(JSON.stringify({ ...whole, format }))), 'damaged', `${format}`);
  t.throws(
    () => parseManifest(Buffer.from(sealed(JSON.stringify({ ...whole, format: 2 }))), 'there'),
    /there is not a manifest of format 1; update/,
  );
});

t.test('a file of a later format says so, wherever it keeps its hash', async (t) => {
  const later = JSON.stringify({ ...whole, format: 3 });
  const said = { code: 'damaged', message: /^there is of format 3, .*; update the appliance$/ };
  for (const content of [later, `${later}\n`, `${later}\n${hash('a')}\n`, `${later.slice(0, -1)},"sha256":"${hash('a')}"}\n`])
    t.throws(() => parseManifest(Buffer.from(content), 'there'), said, content.slice(-80));
  const damaged = { code: 'damaged', message: /^there is damaged: its hash is wrong/ };
  t.throws(() => parseManifest(Buffer.from(text.replace('web', 'wob')), 'there'), damaged, 'not a known format with a changed byte');
});

t.test('keys of later versions are ignored', async (t) => {
  t.equal(verdict(sealed(JSON.stringify({ ...whole, later: true, archives: [{ ...archive('a.tar'), later: 1 }] }))), 'whole');
});

t.test('missing keys and keys of a wrong type are refused', async (t) => {
  const without = (key: string) => JSON.stringify(whole, (name, value: unknown) => (name === key ? undefined : value));
  const needed = [
    'run',
    'job',
    'container',
    'native',
    'text',
    'volume',
    'sources',
    'archives',
    'path',
    'stored_bytes',
    'sha256',
    'source',
    'level',
  ];
  for (const key of [...needed, 'compression']) t.equal(verdict(sealed(without(key))), 'damaged', `without ${key}`);
  const archives = [
    { ...archive('a.tar'), compression: 'gzip' },
    { ...archive('a.tar'), stored_bytes: '5' },
    { ...archive('a.tar'), stored_bytes: 1.5 },
    { ...archive('a.tar'), sha256: hash('A') },
    { ...archive('a.tar'), sha256: 'aa' },
    { ...archive('a.tar'), level: null },
    { ...archive('a.tar'), snapshot: {} },
    null,
  ];
  for (const one of archives) t.equal(verdict(sealed(JSON.stringify({ ...whole, archives: [one] }))), 'damaged', JSON.stringify(one));
});

t.test('a path that leads out of the record is refused', async (t) => {
  const paths = ['', '/etc/passwd', '../other/image.tar', 'a/../../b', './a', 'a//b', 'a/', '..', '.'];
  for (const path of paths) {
    t.equal(
      verdict(sealed(JSON.stringify({ ...whole, archives: [{ ...archive('a.tar'), path }] }))),
      'damaged',
      `archive ${JSON.stringify(path)}`,
    );
    const beside = [{ ...archive('a.tar'), snapshot: { ...snapshot('a.snar'), path } }];
    t.equal(verdict(sealed(JSON.stringify({ ...whole, archives: beside }))), 'damaged', `snapshot ${JSON.stringify(path)}`);
  }
  for (const name of ['', '../x', 'a/b', 'x'.repeat(129), 'a b'])
    t.equal(verdict(sealed(JSON.stringify({ ...whole, sources: [{ name }] }))), 'damaged', `source ${JSON.stringify(name)}`);
});

t.test('names on a target are checked', async (t) => {
  t.equal(recordFolder('my job'), 'container-backup@my job');
  t.equal(runName(Date.UTC(2026, 10, 24, 11, 19, 8, 999)), '2026-11-24_11-19-08');
  t.ok(
    [0, 1e12, 4e12].every((time) => isRunName(runName(time))),
    'what runName gives is a run',
  );
  for (const name of ['2026-11-24', '2026-11-24_11-19-08x', 'x2026-11-24_11-19-08', '2026-11-24_11:19:08', '', 'image'])
    t.notOk(isRunName(name), `${JSON.stringify(name)} is no run`);
  t.equal(archiveName('a', 'zstd'), 'a.tar.zst');
  t.equal(archiveName('a', 'none'), 'a.tar');
  t.equal(besideArchive('run/data.1.tar.zst', 'snar.zst'), 'run/data.1.snar.zst');
  t.equal(besideArchive('run/a.tar.tar', 'snar.zst'), 'run/a.tar.snar.zst');
  for (const name of [
    'image.tar',
    'image.tar.zst',
    'image.snar.zst',
    'image-2026-11-24_11-19-08.tar.zst',
    'image-2026-11-24_11-19-08-2.tar',
  ])
    t.ok(isBaseName(name), `${name} is a base`);
  for (const name of [
    'image',
    'image.iso',
    'images.tar',
    'image-of-mine.tar',
    'image.tar.gz',
    'my-image.tar',
    'image.tar.zst.bak',
    'backup-metadata',
  ])
    t.notOk(isBaseName(name), `${name} is not ours`);
});
