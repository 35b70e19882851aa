import { createHash, createHmac } from 'node:crypto';
import t from 'tap';
import {
  archiveName,
  besideArchive,
  isBaseName,
  isOwnManifest,
  isRunName,
  type Manifest,
  manifestText,
  parseManifest,
  recordFolder,
  runName,
  sealManifest,
} from '../../core/archive/index.js';
import { PluginError } from '../../core/contract/index.js';
import { seed } from '../support/depth.js';
import { inFormat1, inFormat2 } from '../support/manifest-file.js';
import { mulberry } from '../system/crash/random.js';
import { archive, hash, manifest, snapshot } from '../system/hostile/archive-samples.js';

const hmac = (key: string, text: string) => createHmac('sha256', key).update(text).digest('hex');
const sealerOf = (appliance: string) => ({ appliance, mac: (text: string) => hmac(appliance, text) });
const own = sealerOf('0123456789abcdef');
const whole = sealManifest(manifest('2026-11-24_11-19-08'), own);
const text = manifestText(whole);
const earlier: Manifest = { ...manifest('2026-11-24_11-19-08'), format: 1 };
const read = (content: string | Buffer) => parseManifest(Buffer.from(content), 'x/manifest.json');

/** Every function that makes a whole file of a JSON text, with the format that it is of. */
const forms = [
  [1, inFormat1],
  [2, inFormat2],
] as const;
/** A whole file with these keys, in both formats. */
const inBoth = (more: object): readonly Buffer[] =>
  forms.map(([format, form]) => form(JSON.stringify({ ...manifest('2026-11-24_11-19-08'), format, ...more })));

/** What reading it says: 'whole', or the code of the error. */
function verdict(content: string | Buffer): string {
  try {
    read(content);
    return 'whole';
  } catch (error) {
    return error instanceof PluginError ? error.code : `not coded: ${error}`;
  }
}
/** What reading it says in both formats, where that is the same. */
const verdicts = (more: object): string => [...new Set(inBoth(more).map(verdict))].join(', ');

t.test('a manifest reads back as written', async (t) => {
  t.same(read(text), whole);
  t.same(read(inFormat1(JSON.stringify(earlier))), earlier, 'also in format 1');
  const job = { id: 1, name: 'line\nbreak \u2028 "quoted" ü ,"sha256":"' };
  for (const odd of [manifest('2026-11-24_11-19-08', { job }), sealManifest(manifest('2026-11-24_11-19-08', { job }), own)])
    t.same(read(manifestText(odd)), odd, 'a line break or a key in a name is none in the file');
});

t.test('a manifest is JSON as a whole, whose last keys are the seal and the hash', async (t) => {
  t.equal(text.indexOf('\n'), text.length - 1, 'one line');
  const { seal, sha256, ...rest } = JSON.parse(text);
  t.same(rest, manifest('2026-11-24_11-19-08'));
  const before = (key: string) =>
    createHash('sha256')
      .update(text.slice(0, text.lastIndexOf(`,"${key}"`)))
      .digest('hex');
  t.equal(sha256, before('sha256'));
  t.same(seal, { appliance: own.appliance, mac: hmac(own.appliance, `manifest\n${before('mac')}`) });
  t.match(text, /,"seal":\{"appliance":"[^"]+","mac":"[0-9a-f]{64}"\},"sha256":"[0-9a-f]{64}"\}\n$/);
});

t.test('a manifest cut anywhere is damaged', async (t) => {
  for (const content of [text, inFormat1(JSON.stringify(earlier)).toString()]) {
    const wrong: number[] = [];
    for (let length = 0; length < content.length - 1; length++) if (verdict(content.slice(0, length)) !== 'damaged') wrong.push(length);
    t.same(wrong, []);
    t.equal(verdict(content.slice(0, -1)), 'whole', 'but for the last line break');
  }
});

t.test('any other byte anywhere is found, and so is one more or one less', async (t) => {
  const random = mulberry(seed);
  const bytes = Buffer.from(text);
  const wrong: string[] = [];
  const look = (what: string, content: Buffer) => void (verdict(content) !== 'damaged' && wrong.push(what));
  for (let at = 0; at < bytes.length; at++) {
    const [before, byte, after] = [bytes.subarray(0, at), bytes[at] ?? 0, bytes.subarray(at + 1)];
    // All values at the end, which no hash covers; elsewhere each bit and some value.
    const inEnd = at > bytes.length - 250;
    const others = inEnd ? Array.from({ length: 255 }, (_, n) => n + 1) : [1, 2, 4, 8, 16, 32, 64, 128, 1 + Math.floor(random() * 255)];
    for (const other of others) look(`${at} ^ ${other}`, Buffer.concat([before, Buffer.from([byte ^ other]), after]));
    if (at < bytes.length - 1) look(`${at} less`, Buffer.concat([before, after]));
    for (const more of [0x20, 0x0a, Math.floor(random() * 256)])
      look(`${at} and ${more}`, Buffer.concat([before, Buffer.from([more, byte]), after]));
  }
  for (const more of ['\n', ' ', '\0', 'x', '}', '\n\n']) look(`${JSON.stringify(more)} at its end`, Buffer.from(text + more));
  t.same(wrong, [], `seed ${seed}`);
});

t.test('bytes before, inside or in place of a manifest are found', async (t) => {
  const [body = '', sum = ''] = inFormat1(JSON.stringify(earlier)).toString().split('\n');
  const cases = {
    before: ` ${text}`,
    'before format 1': ` ${body}\n${sum}\n`,
    between: `${body}\n\n${sum}\n`,
    twice: `${text}${text}`,
    'twice in format 1': `${body}${body}\n${sum}\n`,
    empty: '',
    zeros: '\0'.repeat(text.length),
    'format 2 in the form of format 1': inFormat1(JSON.stringify(whole)),
    'format 1 in the form of format 2': inFormat2(JSON.stringify(earlier)),
    'both forms': inFormat1(text.trimEnd()),
    'the hash in capitals': text.replace(/[0-9a-f]{64}(?="}\n$)/, (hex) => hex.toUpperCase()),
    'a space before the hash': text.replace(/(?<="sha256":)(?="[0-9a-f]{64}"}\n$)/, ' '),
  };
  for (const [name, content] of Object.entries(cases)) t.equal(verdict(content), 'damaged', name);
  for (const content of [text, `${body}\n${sum}\n`])
    t.equal(verdict(content.replaceAll('\n', '\r\n')), 'damaged', 'rewritten by an editor');
});

t.test('what only looks like the end of a manifest is none', async (t) => {
  const { mac } = whole.seal ?? {};
  const seal = `,"seal":{"appliance":"${own.appliance}","mac":"${mac}"}`;
  const json = JSON.stringify(manifest('2026-11-24_11-19-08'));
  const inside = (end: string) => `${json.slice(0, -1)}${end}`;
  const hashed = `,"sha256":"${hash('a')}"}`;
  const cases = {
    'a hash in a string': inside(`,"x":"${hashed.replaceAll('"', '\\"')}"}`),
    'a hash in an inner object': inside(`,"x":{"y":1${hashed}}`),
    'a hash before the last key': inside(`,"sha256":"${hash('a')}","x":1}`),
  };
  for (const [name, content] of Object.entries(cases)) t.equal(verdict(content), 'damaged', name);
  const refused = {
    'a seal before the last keys': inside(`${seal},"x":1}`),
    'a seal of another form': inside(',"seal":"none"}'),
    'a seal with spaces': inside(`${seal.replaceAll(':', ': ')}}`),
    'a seal with more keys': inside(`${seal.slice(0, -1)},"x":1}}`),
    'two seals': inside(`${seal}${seal}}`),
    'a seal by two names': inside(`${seal.replace('seal', '\\u0073eal')}${seal}}`),
    'a hash by two names': inside(`,"sha256":"${hash('a')}"}`),
    'a hash that ends a string': inside(',"x":"}'),
    'two formats': `{"format":1,${json.slice(1)}`,
    'two lists of archives': `{"archives":[],${json.slice(1)}`,
    'a key twice in an inner object': inside(',"x":[{"a":1,"b":{},"a":2}]}'),
  };
  for (const [name, content] of Object.entries(refused)) t.equal(verdict(inFormat2(content)), 'damaged', name);
  t.equal(verdict(inFormat2(inside(',"x":[{"a":1,"b":{"a":1}},{"a":2}]}'))), 'whole', 'equal keys of several objects');
});

t.test('a seal proves the very bytes before it, and only to the appliance that wrote them', async (t) => {
  t.ok(isOwnManifest(read(text), own));
  t.notOk(isOwnManifest(read(text), sealerOf('fedcba9876543210')), 'not to another one');
  t.notOk(isOwnManifest(read(manifestText(manifest('2026-11-24_11-19-08'))), own), 'not without a seal');
  const body = text.slice(0, text.lastIndexOf(',"sha256"'));
  const changes = {
    'another value': body.replace('"pause_ms":12', '"pause_ms":13'),
    'a space': body.replace('{', '{ '),
    'another spelling': body.replace('"web"', '"w\\u0065b"'),
    'a key more': body.replace(',"seal"', ',"x":1,"seal"'),
    'another appliance': body.replace(own.appliance, 'fedcba9876543210'),
    'another mac': body.replace(/"mac":"../, '"mac":"00'),
  };
  for (const [name, content] of Object.entries(changes)) t.notOk(isOwnManifest(read(inFormat2(`${content}}`)), own), name);
  const inner = `${JSON.stringify(manifest('2026-11-24_11-19-08')).slice(0, -1)},"x":{"y":1${body.slice(body.indexOf(',"seal"'))}}}`;
  t.notOk(isOwnManifest(read(inFormat2(inner)), own), 'nor does one in an inner object');
  t.notOk(isOwnManifest({ ...read(text), pause_ms: 13 }, own), 'nor that of a copy');
  const rest = JSON.stringify(manifest('2026-11-24_11-19-08')).slice(12, -1);
  const later = `{"format":2,"unknown":[1.50,"\\u00fc"],${rest},"seal":{"appliance":"${own.appliance}"`;
  const mac = own.mac(`manifest\n${createHash('sha256').update(later).digest('hex')}`);
  t.ok(isOwnManifest(read(inFormat2(`${later},"mac":"${mac}"}}`)), own), 'however they are written');
});

t.test('a seal of format 1 is over the JSON of the other keys', async (t) => {
  const sealed: Manifest = { ...earlier, seal: { appliance: own.appliance, mac: own.mac(JSON.stringify(earlier)) } };
  t.ok(isOwnManifest(read(inFormat1(JSON.stringify(sealed))), own));
  t.notOk(isOwnManifest(read(inFormat1(JSON.stringify({ ...sealed, pause_ms: 13 }))), own));
  t.equal(verdict(inFormat1(JSON.stringify({ ...earlier, seal: 'none' }))), 'whole', 'of another form: as if there were none');
});

t.test('a body that is no JSON is damaged even with a right hash', async (t) => {
  for (const body of ['', '{', '{}', '{"format":2', 'null', '[]', '"text"', '1', 'undefined'])
    for (const [, form] of forms) t.equal(verdict(form(body)), 'damaged', JSON.stringify(body));
});

t.test('a newer format is refused, never guessed at', async (t) => {
  const said = { code: 'damaged', message: /^x\/manifest.json is no manifest of format 1 or 2, .*; update the appliance$/ };
  for (const format of [3, 0, '1', '2', null, undefined, 1.5])
    for (const [, form] of forms)
      t.throws(() => read(form(JSON.stringify({ ...manifest('2026-11-24_11-19-08'), format }))), said, `${format}`);
});

t.test('a file of a later format says so, wherever it keeps its hash', async (t) => {
  const later = JSON.stringify({ ...whole, format: 3 });
  const said = { code: 'damaged', message: /^x\/manifest.json is of format 3, .*; update the appliance$/ };
  for (const content of [later, `${later}\n`, `${later}\n${hash('a')}\n`, `${later.slice(0, -1)},"sha256":"${hash('a')}"}\n`])
    t.throws(() => read(content), said, content.slice(-80));
  const damaged = { code: 'damaged', message: /^x\/manifest.json is damaged: its hash is wrong/ };
  t.throws(() => read(text.replace('web', 'wob')), damaged, 'not a known format with a changed byte');
});

t.test('a run of which this version would restore a part is refused', async (t) => {
  const said = { code: 'damaged', message: /has \["later"\], which this version does not read; update the appliance$/ };
  for (const content of inBoth({ must_know: ['later'], archives: 'of another form' })) t.throws(() => read(content), said);
});

t.test('keys of later versions are ignored', async (t) => {
  t.equal(verdicts({ later: true, archives: [{ ...archive('a.tar'), later: 1 }] }), 'whole');
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
  for (const key of [...needed, 'compression']) t.equal(verdict(inFormat2(without(key))), 'damaged', `without ${key}`);
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
  for (const one of archives) t.equal(verdicts({ archives: [one] }), 'damaged', JSON.stringify(one));
});

t.test('a path that leads out of the record is refused', async (t) => {
  const paths = ['', '/etc/passwd', '../other/image.tar', 'a/../../b', './a', 'a//b', 'a/', '..', '.'];
  for (const path of paths) {
    t.equal(verdicts({ archives: [{ ...archive('a.tar'), path }] }), 'damaged', `archive ${JSON.stringify(path)}`);
    const beside = [{ ...archive('a.tar'), snapshot: { ...snapshot('a.snar'), path } }];
    t.equal(verdicts({ archives: beside }), 'damaged', `snapshot ${JSON.stringify(path)}`);
  }
  for (const name of ['', '../x', 'a/b', 'x'.repeat(129), 'a b'])
    t.equal(verdicts({ sources: [{ name }] }), 'damaged', `source ${JSON.stringify(name)}`);
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
