/** Records with runs of several formats: what an appliance finds after an update, and after it has fallen back to the version before. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import type { Body } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { changeManifestFile } from '../../support/manifest-file.js';
import { list } from '../bed/request-bodies.js';
import { backUp, levelsOf, makeJob, restore, restorePlan, settle } from '../fidelity/bench.js';
import { manifestHashes, typed } from '../fidelity/shell-block.js';

const exec = promisify(execFile);
const a = await makeAppliance(t, { flags: ['--undo-hours', '0', '--new-base-ratio', '10'] });

interface Bed {
  readonly job: number;
  readonly name: string;
  /** The volume's folder on this machine. */
  readonly data: string;
  /** The record's folder. */
  readonly record: string;
  manifest(run: string): string;
}

async function makeBed(name: string, retention = 0): Promise<Bed> {
  await a.lxc(name);
  const data = join(a.lxcPath, name, 'volumes/data');
  await writeFile(join(data, 'file'), 'first');
  await settle();
  const job = await makeJob(a.service, { name, container: name, type: 'lxc', retention });
  const record = join(a.share, 'backups', `container-backup@${name}`);
  return { job, name, data, record, manifest: (run) => join(record, run, 'manifest.json') };
}

/** As a run of an early version, which sealed nothing. */
const toFormat1 = ({ seal: _, ...manifest }: Body): Body => ({ ...manifest, format: 1 });

async function byHand({ record, name, data }: Bed, run: string) {
  const into = join(a.folder, 'by-hand', name, run);
  await mkdir(into, { recursive: true });
  const said = await typed(record, run, into);
  return { hashes: manifestHashes(said), differences: differences(await snapshotOf(data), await snapshotOf(join(into, 'data'))) };
}

const filesIn = async (folder: string): Promise<string[]> => (await readdir(folder, { recursive: true })).sort();

t.test('a run after an update builds on a run of format 1, is of format 2, and both are restored', async (t) => {
  const bed = await makeBed('updated');
  const first = await backUp(a.service, bed.job);
  await changeManifestFile(bed.manifest(first), toFormat1);
  t.equal((await readFile(bed.manifest(first), 'utf8')).split('\n').length, 3, 'a line of JSON and a line of its hash');
  const old = await byHand(bed, first);
  t.match(old.hashes[1], /^[0-9a-f]{64}$/);
  t.same([old.hashes[0], old.differences], [old.hashes[1], []], 'the old run, by hand');
  await writeFile(join(bed.data, 'file'), 'second');
  await settle();
  const second = await backUp(a.service, bed.job);
  const { stdout } = await exec('jq', ['-r', '.format, .sha256, .seal.mac', bed.manifest(second)]);
  t.match(stdout, /^2\n[0-9a-f]{64}\n[0-9a-f]{64}\n$/, 'any program reads it as JSON');
  t.match(
    await levelsOf(a.service, bed.job, second, 'data'),
    [`0 ${first}/data.tar`, `1 ${second}/data.tar`],
    'on the base that was there',
  );
  const anew = await byHand(bed, second);
  t.same([anew.hashes[0], anew.differences], [anew.hashes[1], []], 'the new run, by hand');
  t.match(await a.service.call('GET', `/backup/${bed.job}/runs`), [
    { run: second, ok: true },
    { run: first, ok: true },
  ]);
  for (const [run, text] of [
    [first, 'first'],
    [second, 'second'],
  ] as const) {
    t.match(await restore(a.service, { portfolio: `updated/${run}`, container: 'updated', type: 'lxc' }), { result: 0, run });
    t.equal(await readFile(join(bed.data, 'file'), 'utf8'), text);
  }
});

t.test('a run of a later format asks for an update, loses no file and is whole again after it', async (t) => {
  const bed = await makeBed('fallen-back', 2);
  await backUp(a.service, bed.job);
  const second = await backUp(a.service, bed.job);
  await writeFile(join(bed.data, 'later'), 'of the later version');
  await settle();
  const later = await backUp(a.service, bed.job);
  const text = await readFile(bed.manifest(later), 'utf8');
  await writeFile(join(bed.record, later, 'data.blocks.tar.zst'), 'of a kind that only a later version knows');
  const files = async () => (await filesIn(join(bed.record, later))).map((file) => `${later}/${file}`);
  const its = [...(await files()), 'image.tar', 'image.snar.zst'];
  const said = /update the appliance/;
  const forms = [text.replace('"format":2', '"format":3'), text.replace('"format":2,', '"format":3,"blocks":true,')];
  for (const form of forms) {
    await writeFile(bed.manifest(later), form);
    const runs = await a.service.call('GET', `/backup/${bed.job}/runs`);
    t.match(
      runs,
      [
        { run: later, ok: false, problem: said },
        { run: second, ok: true },
      ],
      'in the list',
    );
    const plan = await restorePlan(a.service, { portfolio: bed.name, container: 'copy', type: 'lxc' });
    t.match(plan, { run: second, warnings: [{ code: 'run_damaged', names: [later], message: said }] }, 'in a plan');
    const body = {
      job_name: 'r',
      container_id: 'copy',
      type: 'lxc',
      src: { target: 'local', path: '/test/backups', portfolio: `${bed.name}/${later}` },
    };
    t.match(await a.service.ask('POST', '/restore/plan', body), { status: 502, text: said }, 'by its name');
  }
  for (let n = 0; n < 3; n++) await backUp(a.service, bed.job);
  const there = await filesIn(bed.record);
  t.same(
    its.filter((file) => !there.includes(file)),
    [],
    'three runs and a retention of two leave all of it',
  );
  await writeFile(bed.manifest(later), text);
  t.match(await restore(a.service, { portfolio: `${bed.name}/${later}`, container: bed.name, type: 'lxc' }), { result: 0, run: later });
  t.equal(await readFile(join(bed.data, 'later'), 'utf8'), 'of the later version');
  await backUp(a.service, bed.job);
  t.equal(list(await a.service.call('GET', `/backup/${bed.job}/runs`)).length, 2, 'from then on retention counts it');
  t.notOk((await filesIn(bed.record)).includes(later), 'and collects what no run needs');
});
