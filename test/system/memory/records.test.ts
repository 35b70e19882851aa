/** The memory of the service does not grow with the content of a target: here many manifests of 14 MiB at one path. `make
 *  campaign-records` takes a thousand. */
import { link, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { pointsOf } from '../../support/depth.js';
import { inFormat2, readManifestFile } from '../../support/manifest-file.js';
import { list } from '../bed/request-bodies.js';
import { makeJob } from '../fidelity/bench.js';
import { changed } from '../hostile/crafted-manifests.js';
import { MemoryWatch } from './watch.js';

const limit = 256; // MiB
const large = 14 << 20;
const { manifests } = pointsOf('records');
const run = '2026-11-24_23-03-47';
const sample = fileURLToPath(new URL(`../../fixtures/format-1/container-backup@packed/${run}/manifest.json`, import.meta.url));
const good = { ...(await readManifestFile(sample)), format: 2 };

/** Contents of a large manifest: text, text with characters beyond latin1, and as many values as are allowed. */
const fillings: Readonly<Record<string, unknown>> = {
  text: 'x'.repeat(large),
  'wide text': `ü€${'x'.repeat(large)}`,
  values: Array.from({ length: 190_000 }, (_, n) => ({ [`a${n % 220}${'x'.repeat(24)}`]: n, [`b${n % 219}${'x'.repeat(24)}`]: n })),
};

/** Status codes: a slow machine may not read everything within the 30 seconds of an answer. */
const inTimeOrNot: readonly number[] = [200, 503];

const a = await makeAppliance(t);
const records = join(a.share, 'backups');
const body = { job_name: 'plan', container_id: 'copy', type: 'lxc' };
const src = (portfolio: string) => ({ target: 'local', path: '/test/backups', portfolio });
const plan = (portfolio: string) => a.service.ask('POST', '/restore/plan', { ...body, src: src(portfolio) });

async function record(name: string, file: Buffer | string, at = run): Promise<string> {
  const folder = join(records, `container-backup@${name}`, at);
  await mkdir(folder, { recursive: true });
  const path = join(folder, 'manifest.json');
  await (typeof file === 'string' ? link(file, path) : writeFile(path, file));
  return path;
}

/** Does the work, and reports the memory of the service meanwhile. */
async function within<T>(t: Test, what: string, work: () => Promise<T>): Promise<T> {
  using watch = new MemoryWatch(a.service.pid);
  const done = await work();
  const { peak, seconds } = watch.figures();
  t.ok(peak < limit, `${what}: ${peak} MiB at most, in ${seconds} s`);
  return done;
}

await record('innocent', inFormat2(JSON.stringify(good)));

for (const [name, filling] of Object.entries(fillings)) {
  t.test(`plans among ${manifests} records with manifests full of ${name} stay within the limit`, async (t) => {
    const bytes = inFormat2(JSON.stringify(changed(changed(good, ['x'], filling), ['job', 'id'], 99)));
    const one = await record('large-0', bytes);
    for (let n = 1; n < manifests; n++) await record(`large-${n}`, one);
    await within(t, 'a plan that looks for the record of a job', async () => {
      const { status } = await plan('2');
      t.ok(inTimeOrNot.includes(status), `it answers ${status}`);
    });
    await within(t, 'ten plans of one at a time', async () => {
      const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => plan(`large-${n}`)));
      t.same(
        answers.filter(({ status }) => !inTimeOrNot.includes(status)),
        [],
      );
    });
    t.equal((await plan('innocent')).status, 200, 'the innocent one is planned by its name');
    for (let n = 0; n < manifests; n++) await rm(join(records, `container-backup@large-${n}`), { recursive: true });
  });
}

t.test('a record with large manifests is listed and gets a new run within the limit', async (t) => {
  const name = 'grown';
  await a.lxc(name);
  const job = await makeJob(a.service, { name, container: name, type: 'lxc', features: [] });
  for (let n = 0; n < 12; n++) {
    const at = `2026-10-${10 + n}_00-00-00`;
    await record(name, inFormat2(JSON.stringify(changed(changed(good, ['x'], fillings.text), ['run'], at))), at);
  }
  const runs = await within(t, 'a list of its runs', () => a.service.call('GET', `/backup/${job}/runs`));
  t.equal(list(runs).filter((one) => part(one, 'ok') === true).length, 12);
  await within(t, 'a backup', () => a.service.backUp(job));
});
