/** A manifest is input: what the format does not allow is refused with the run's name, and costs neither the process nor its memory. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { parseManifest } from '../../core/archive/index.js';
import { PluginError } from '../../core/contract/index.js';
import { parse } from '../../core/schemas.js';
import { pointsOf, seed } from '../support/depth.js';
import { inFormat1, inFormat2, manifestIn } from '../support/manifest-file.js';
import { mulberry } from '../system/crash/random.js';
import { archivesOf, changed, craftedBodies, craftedFiles, oddBodies } from '../system/hostile/crafted-manifests.js';
import { pick } from '../system/hostile/values.js';

const sample = fileURLToPath(new URL('../fixtures/format-1/container-backup@packed/2026-11-24_23-03-47/manifest.json', import.meta.url));
const text = await readFile(sample);
const where = 'record/run/manifest.json';
const earlier = manifestIn(text.toString());
const good = { ...earlier, format: 2 };
/** The sample in each format, and what makes a file of its JSON. */
const forms = [
  [earlier, inFormat1],
  [good, inFormat2],
] as const;

/** What reading it says: '' when it is whole, else the message; what is no coded error with the file's name fails the test. */
function refusal(bytes: Buffer): string {
  try {
    parseManifest(bytes, where);
    return '';
  } catch (error) {
    if (error instanceof PluginError && error.code === 'damaged' && error.message.includes(where) && error.message.length < 600)
      return error.message;
    throw error;
  }
}

t.test('a manifest that breaks a rule of the format is refused', async (t) => {
  t.equal(refusal(text), '', 'the sample itself is whole');
  const inFolder = ['run-of-another', 'huge']; // the folder's name and the file's size are not the text's
  for (const [name, body] of Object.entries(craftedBodies))
    for (const [kept, form] of forms) if (!inFolder.includes(name)) t.not(refusal(form(body(kept))), '', name);
  for (const [name, file] of Object.entries(craftedFiles)) if (!inFolder.includes(name)) t.not(refusal(file(good)), '', name);
});

t.test('keys of later versions, and everything that no rule forbids, are accepted', async (t) => {
  for (const [name, body] of Object.entries(oddBodies)) for (const [kept, form] of forms) t.equal(refusal(form(body(kept))), '', name);
  const names = archivesOf(10_000).map(({ source }) => ({ name: source, origin: 'new', kind: 'folder' }));
  const most = changed(changed(good, ['sources'], names), ['archives'], archivesOf(10_000));
  t.equal(refusal(inFormat2(JSON.stringify(most))), '', '10,000 sources');
});

t.test('every run of the samples is read', async (t) => {
  const samples = fileURLToPath(new URL('../fixtures/', import.meta.url));
  const runs = (await readdir(samples, { recursive: true })).filter((path) => path.endsWith('/manifest.json'));
  t.equal(runs.length, 8);
  for (const path of runs) t.equal(refusal(await readFile(join(samples, path))), '', path);
});

const values: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 60,
  '',
  '..',
  '/etc',
  '__proto__',
  'a'.repeat(5000),
  '\0',
  [],
  {},
  [null],
  { path: '..' },
];

/** Every path of the value. */
function pathsOf(value: unknown): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [[]];
  const keys = Array.isArray(value) ? [...value.keys()] : Object.keys(value);
  return [[], ...keys.flatMap((key) => pathsOf(Reflect.get(value, key)).map((rest) => [key, ...rest]))];
}

t.test('mutated manifests never end the process, and are accepted only when hash and schema are right', async (t) => {
  const random = mulberry(seed);
  const paths = pathsOf(good);
  const { mutations } = pointsOf('records');
  const wrong: string[] = [];
  let taken = 0;
  for (let n = 0; n < mutations; n++) {
    const times = 1 + Math.floor(random() * 3);
    let value: unknown = good;
    for (let i = 0; i < times; i++) value = changed(value, pick(random, paths), random() < 0.3 ? undefined : pick(random, values));
    const [, form] = pick(random, forms);
    const bytes = form(JSON.stringify(value) ?? 'undefined');
    if (random() < 0.2) {
      const at = Math.floor(random() * (bytes.length - 1));
      bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(random() * 8));
      if (refusal(bytes) === '') wrong.push(`${n}: a flipped bit at ${at}`);
      continue;
    }
    if (refusal(bytes) !== '') continue;
    taken++;
    t.doesNotThrow(() => parse('manifest', JSON.parse(JSON.stringify(value))), `${n}: what is taken fits the schema`);
  }
  t.same(wrong, []);
  t.comment(`seed ${seed}: of ${mutations} mutated manifests ${taken} were taken`);
});
