/** A base is trusted only for a time after its verification. A source that is suddenly empty deletes no older run. */
import { randomBytes } from 'node:crypto';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Body, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance, ownDockerd } from '../../support/appliance.js';
import { list } from '../bed/request-bodies.js';
import { makeJob, settle } from '../fidelity/bench.js';
import { Household, type Kind, kinds, sourceOf, textOf } from '../household/bed.js';

const docker = await ownDockerd(t);
await docker.sampleImage('sample:1');

interface Bed {
  readonly h: Household;
  readonly job: number;
  readonly name: string;
  /** A folder of the host that the container mounts, and its name in a run. */
  readonly folder: string;
  readonly source: string;
  readonly record: string;
  /** Runs the job. @returns its full state */
  run(): Promise<Body>;
  runs(): Promise<readonly unknown[]>;
  /** Path in the record of the source's base in the newest run. */
  base(source: string): Promise<string>;
}

const eager = await makeAppliance(t, { dockerd: docker, flags: ['--verify-days', '0'] });

async function makeBed(t: Test, kind: Kind, title: string, o: { readonly a?: Appliance; readonly retention?: number } = {}): Promise<Bed> {
  const h = new Household(t, o.a ?? eager, docker);
  const name = `${title}-${kind}`;
  const folder = await h.folder(title + kind);
  await h.container(kind, name, { '/app': folder });
  // A level of more than half of its base would cause a new base by itself.
  await writeFile(join(folder, 'ballast'), randomBytes(1 << 20));
  await writeFile(join(folder, 'file'), 'first');
  await settle();
  const { retention = 0 } = o;
  const job = await makeJob(h.a.service, { name, container: name, type: kind, retention });
  const runs = async () => list(await h.a.service.call('GET', `/backup/${job}/runs`));
  return {
    ...{ h, job, name, folder, source: sourceOf(kind, '/app', folder), runs },
    record: join(h.a.share, 'backups', `container-backup@${name}`),
    run: () => h.a.service.backUp(job),
    base: async (source) => {
      const [newest] = await runs();
      const manifest = await h.a.service.call('GET', `/backup/${job}/runs/${part(newest, 'run')}`);
      return String(
        part(
          list(part(manifest, 'archives')).find((one) => part(one, 'source') === source),
          'path',
        ),
      );
    },
  };
}

async function flipBit(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const at = Math.floor((await file.stat()).size / 2);
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, at);
}

const okOf = (runs: readonly unknown[]): unknown[] => runs.map((one) => part(one, 'ok'));
const nameOf = (runs: readonly unknown[], n: number): string => String(part(runs[n], 'run'));

for (const kind of kinds) {
  t.test(`${kind}: a run verifies its base, reports a flipped bit with the runs that need it, and makes a new base`, async (t) => {
    const b = await makeBed(t, kind, 'flipped');
    await b.run();
    t.equal((await b.run()).warnings, undefined, 'a whole base is built upon without a word');
    const damaged = await b.base(b.source);
    await flipBit(join(b.record, damaged));
    await writeFile(join(b.folder, 'file'), 'second');
    const state = await b.run();
    const runs = await b.runs();
    t.match(state, { result: 0, warnings: [{ code: 'base_damaged', count: 2, names: [nameOf(runs, 1), nameOf(runs, 2)] }] });
    t.same(okOf(runs), [true, false, false]);
    t.match(runs[1], { problem: new RegExp(damaged) });
    t.match(runs[0], { warnings: [{ code: 'base_damaged' }] }, 'the manifest tells it, too');
    t.not(await b.base(b.source), damaged, 'a new base');
    t.equal((await b.run()).warnings, undefined, 'which the next run builds on');
    await writeFile(join(b.folder, 'file'), 'lost');
    await b.h.restore(kind, b.name);
    t.equal(await textOf(b.folder, 'file'), 'second');
  });

  t.test(`${kind}: a restore that names no run skips runs with a failed verification and says so`, async (t) => {
    const b = await makeBed(t, kind, 'passed');
    await b.run();
    const good = nameOf(await b.runs(), 0);
    await rm(join(b.record, 'verified.json'), { force: true });
    await flipBit(join(b.record, await b.base(b.source)));
    await b.run();
    const [newest] = await b.runs();
    t.match(newest, { ok: true });
    await rm(join(b.record, String(part(newest, 'run')), 'manifest.json'));
    const none = await b.h.a.service.ask('POST', '/restore/plan', b.h.body(kind, b.name));
    t.match([none.status, none.json], [502, { error: { message: new RegExp(`name ${good} in portfolio`) } }]);
    const named = await b.h.plan(kind, b.name, b.name, { src: { target: 'local', path: '/test/backups', portfolio: `${b.name}/${good}` } });
    t.match(named, { run: good, warnings: [{ code: 'run_damaged', message: /failed its last verification/ }] });
    await b.run();
    const [last] = await b.runs();
    t.match(await b.h.plan(kind, b.name), { run: part(last, 'run'), warnings: [] });
  });

  t.test(`${kind}: retention does not count runs that failed their last verification`, async (t) => {
    const b = await makeBed(t, kind, 'counted', { retention: 2 });
    await b.run();
    await b.run();
    const before = await b.runs();
    t.equal(before.length, 2);
    await flipBit(join(b.record, await b.base(b.source)));
    await b.run();
    t.same(okOf(await b.runs()), [true, false, false], 'both that failed stay while there is one whole run');
    await b.run();
    t.same(okOf(await b.runs()), [true, true, false, false], 'and with two');
    await b.run();
    t.same(okOf(await b.runs()), [true, true], 'and go with the first whole one that is too many');
  });

  t.test(`${kind}: a suddenly empty source is reported, and retention deletes nothing until it is confirmed`, async (t) => {
    const b = await makeBed(t, kind, 'emptied', { retention: 2 });
    await b.run();
    await b.run();
    const clear = () => Promise.all(['file', 'ballast'].map((one) => rm(join(b.folder, one), { force: true })));
    await clear();
    const told = { result: 0, emptied: [b.source], warnings: [{ code: 'source_empty', names: [b.source], fix: /confirm/ }] };
    for (const count of [3, 4]) {
      t.match(await b.run(), told);
      t.equal((await b.runs()).length, count, 'nothing is given up');
    }
    t.match(await b.h.a.service.call('PUT', `/backup/${b.job}/confirm?view=full`), { state: { confirmed: [b.source] } });
    const settled = await b.run();
    t.same([settled.result, settled.warnings, settled.emptied, settled.confirmed], [0, undefined, undefined, undefined]);
    t.equal((await b.runs()).length, 2, 'retention has gone on');
    t.equal((await b.run()).warnings, undefined, 'an empty base is the new normal');
    const again = await b.h.a.service.ask('PUT', `/backup/${b.job}/confirm`);
    t.match([again.status, again.json], [404, { error: { message: /nothing to confirm/ } }], 'nothing waits to be confirmed');
    await writeFile(join(b.folder, 'file'), 'back');
    t.equal((await b.run()).warnings, undefined);
    await clear();
    t.match(await b.run(), told, 'what was filled again and is emptied again is told again');
    await writeFile(join(b.folder, 'file'), 'mounted again');
    t.equal((await b.run()).emptied, undefined, 'what comes back needs no confirmation');
    t.equal((await b.runs()).length, 2);
  });
}

t.test('a run verifies a base of unknown age and skips one that was stored lately', async (t) => {
  const b = await makeBed(t, 'lxc', 'lately', { a: await makeAppliance(t) });
  await b.run();
  const known = join(b.record, 'verified.json');
  const word = await readFile(known, 'utf8');
  await flipBit(join(b.record, await b.base('rootfs')));
  t.equal((await b.run()).warnings, undefined, 'it was stored less than thirty days ago');
  const forged = { ...JSON.parse(word), mac: '0'.repeat(64) };
  await writeFile(known, JSON.stringify(forged));
  t.match((await b.run()).warnings, [{ code: 'base_damaged', count: 2 }], 'whoever cannot seal it is not believed');
  for (const odd of ['garbled', '', '[]', JSON.stringify({ ...forged, files: [{ path: '../x', sha256: 'x', at: -1 }] })]) {
    await writeFile(known, odd);
    t.match([(await b.run()).result, okOf(await b.runs())[0]], [0, true], odd);
  }
});
