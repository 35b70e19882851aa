/** A record may be written by an attacker who can write to the target. No such record harms the service, another record at the
 *  same path or anything outside. Each error names its record. */
import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { type Body, part } from '../../support/api-client.js';
import { makeAppliance } from '../../support/appliance.js';
import { differences, snapshotOf } from '../../support/fidelity.js';
import { inFormat2, readManifestFile } from '../../support/manifest-file.js';
import { list, restored } from '../bed/request-bodies.js';
import { changed, craftedBodies, craftedFiles, oddBodies } from './crafted-manifests.js';

const execute = promisify(execFile);
const sample = fileURLToPath(new URL('../../fixtures/format-1/container-backup@packed', import.meta.url));
const [older, run] = ['2026-11-24_23-03-43', '2026-11-24_23-03-47'] as const;
const good = { ...(await readManifestFile(join(sample, run, 'manifest.json'))), format: 2 };

const a = await makeAppliance(t, { flags: ['--undo-hours', '0'] });
const location = join(a.share, 'records');
const recordOf = (name: string): string => join(location, `container-backup@${name}`);
await cp(sample, recordOf('innocent'), { recursive: true });

interface PlanAnswer {
  readonly status: number;
  readonly ms: number;
  readonly text: string;
  readonly json: unknown;
}

async function plan(portfolio: string, more: object = {}): Promise<PlanAnswer> {
  const body = { job_name: 'plan', container_id: 'copy', type: 'lxc', src: { target: 'local', path: '/test/records', portfolio }, ...more };
  const began = performance.now();
  const { status, text, json } = await a.service.ask('POST', '/restore/plan', body);
  return { status, ms: performance.now() - began, text, json };
}

/** Restores with the consent that the plan asks for, since the sample is another appliance's. */
async function restoredAs(container_id: string, portfolio: string): Promise<Body> {
  const consent = part((await plan(portfolio, { container_id })).json, 'consent');
  const src = { target: 'local', path: '/test/records', portfolio };
  return restored(a.service, { container_id, src, ...(typeof consent === 'string' && { consent }) });
}

async function innocentIsFine(t: Test, what: string): Promise<void> {
  t.match(await plan('innocent'), { status: 200, json: { run, warnings: [] } }, `${what}: the innocent one is planned`);
}

/** A record with one run, whose manifest is these bytes. */
async function craftedRecord(name: string, manifest: Buffer): Promise<string> {
  await mkdir(join(recordOf(name), run), { recursive: true });
  await writeFile(join(recordOf(name), run, 'manifest.json'), manifest);
  return name;
}

t.test('each crafted manifest is refused by name, and no other record is', async (t) => {
  const before = { lxc: await snapshotOf(a.lxcPath), share: await snapshotOf(recordOf('innocent')) };
  const files = new Map<string, Buffer>([
    ...Object.entries(craftedBodies).map(([name, body]) => [name, inFormat2(body(good))] as const),
    ...Object.entries(craftedFiles).map(([name, file]) => [name, file(good)] as const),
  ]);
  t.ok(files.size > 70, `${files.size} manifests`);
  for (const [name, bytes] of files) await craftedRecord(name, bytes);
  for (const name of files.keys()) {
    const { status, text } = await plan(name);
    t.match([status, text], [502, new RegExp(`container-backup@${name}/${run}/manifest.json`)], name);
  }
  for (const portfolio of ['innocent', `innocent/${older}`, 'container-backup@innocent'])
    t.equal((await plan(portfolio)).status, 200, `${portfolio} is planned in the middle of them`);
  t.match(await plan('2'), { status: 200, json: { record: 'container-backup@innocent' } }, 'also by the id of its job');
  t.match((await plan('nobody')).status, 404);
  for (const name of files.keys()) await rm(recordOf(name), { recursive: true });
  t.same(differences(before.lxc, await snapshotOf(a.lxcPath)), [], 'nothing came to be where containers lie');
  t.same(differences(before.share, await snapshotOf(recordOf('innocent'))), [], 'nor in the innocent record');
});

t.test('an odd manifest that breaks no rule is planned', async (t) => {
  const names = ['__proto__', 'constructor', 'toString'];
  const renamed = names.map((name) =>
    ['sources', 'container'].reduce<unknown>(
      (value, key) => changed(value, key === 'sources' ? ['sources', 2, 'name'] : ['container', 'volume', 1, 'name'], name),
      changed(
        good,
        ['archives'],
        list(part(good, 'archives')).map((one) => (part(one, 'source') === 'data' ? changed(one, ['source'], name) : one)),
      ),
    ),
  );
  const bodies = new Map([
    ...Object.entries(oddBodies).map(([name, body]) => [name, body(good)] as const),
    ...renamed.map((value, n) => [`named-${n}`, JSON.stringify(value)] as const),
  ]);
  for (const [name, body] of bodies) {
    await craftedRecord(name, inFormat2(body));
    for (const remap of [{}, { volumes: { 'bin-app.conf': join(a.folder, 'elsewhere') } }])
      t.match(await plan(name, { remap }), { status: 200, json: { run } }, `${name} ${JSON.stringify(remap)}`);
    await rm(recordOf(name), { recursive: true });
  }
});

/** Entries that replace a file. */
const things: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  fifo: (path) => execute('mkfifo', [path]),
  folder: (path) => mkdir(path),
  device: (path) => execute('mknod', [path, 'c', '1', '5']),
  link: (path) => symlink('/etc/passwd', path),
  socket: (path) => execute('python3', ['-c', 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])', path]),
};

for (const file of [`${run}/manifest.json`, 'image.tar.zst', `${run}/data.tar.zst`]) {
  t.test(
    `a FIFO, folder, device, link or socket in the place of ${file.replace(`${run}/`, '')} is a problem of its record alone`,
    async (t) => {
      for (const [name, make] of Object.entries(things)) {
        await cp(sample, recordOf(name), { recursive: true });
        await rm(join(recordOf(name), file));
        await make(join(recordOf(name), file));
      }
      for (const name of Object.keys(things)) {
        const state = await restoredAs('copy', `${name}/${run}`);
        t.match(
          state,
          { result: -1, error: { code: 'damaged', message: new RegExp(`container-backup@${name}/${file}`) } },
          `${name}: restored`,
        );
        await innocentIsFine(t, name);
        t.equal((await plan(`${name}/${older}`)).status, 200, `${name}: its other run is planned`);
        const isManifest = file.endsWith('manifest.json');
        const taken = isManifest ? { run: older, warnings: [{ code: 'run_damaged', names: [run], message: /manifest.json/ }] } : { run };
        t.match((await plan(name)).json, taken, `${name}: when none is named, the newest manifest that can be used counts`);
      }
      t.same(
        (await readdir(a.lxcPath)).filter((name) => name !== '.container-backup'),
        [],
        'no container was made',
      );
      for (const name of Object.keys(things)) await rm(recordOf(name), { recursive: true });
    },
  );
}

t.test('a record that is a file or a link is no record', async (t) => {
  await writeFile(recordOf('file'), 'no folder');
  await symlink('/etc', recordOf('link-out'));
  await symlink(recordOf('innocent'), recordOf('link-in'));
  for (const name of ['file', 'link-out', 'link-in']) {
    t.equal((await plan(name)).status, 404, `${name} is no record`);
    await innocentIsFine(t, name);
    await rm(recordOf(name));
  }
});

t.test('a renamed run folder is no run under its new name', async (t) => {
  await cp(sample, recordOf('renamed'), { recursive: true });
  await rename(join(recordOf('renamed'), run), join(recordOf('renamed'), '2026-11-25_00-00-00'));
  const text = new RegExp(`is the manifest of ${run}; the folder was renamed`);
  t.match(await plan('renamed/2026-11-25_00-00-00'), { status: 502, text });
  t.match((await plan('renamed')).json, { run: older, warnings: [{ code: 'run_damaged', message: text }] });
  await rm(recordOf('renamed'), { recursive: true });
});

t.test('a newer run without a manifest is skipped with a warning', async (t) => {
  await cp(sample, recordOf('lost'), { recursive: true });
  await rm(join(recordOf('lost'), run, 'manifest.json'));
  const told = { code: 'run_damaged', count: 1, names: [run], message: new RegExp(older), fix: /verify container-backup@lost/ };
  t.match(await plan('lost'), { status: 200, json: { run: older, warnings: [told] } }, 'in the plan');
  t.match(await plan(`lost/${older}`), { status: 200, json: { run: older, warnings: [] } }, 'not when the run was named');
  a.alsoDestroy('copy');
  const state = await restoredAs('copy', 'lost');
  t.match(state, { result: 0, run: older, warnings: [told] }, `and in the result ${JSON.stringify(state.error)}`);
  await rm(recordOf('lost'), { recursive: true });
});

t.test('a plan over 20,000 empty run folders takes less than two seconds', async (t) => {
  await cp(sample, recordOf('many'), { recursive: true });
  const names = Array.from({ length: 20_000 }, (_, n) => new Date(Date.UTC(2027, 0) + n * 1000).toISOString().slice(0, 19));
  const folders = names.map((name) => join(recordOf('many'), name.replace('T', '_').replaceAll(':', '-')));
  for (let at = 0; at < folders.length; at += 1000) await execute('mkdir', folders.slice(at, at + 1000));
  // the fastest of a few, since other load of the machine only adds time
  const { status, json, ...first } = await plan('many');
  const ms = Math.min(first.ms, (await plan('many')).ms, (await plan('many')).ms);
  t.match([status, json], [200, { run, warnings: [{ code: 'run_damaged', count: 20_000 }] }]);
  t.equal(list(part(list(part(json, 'warnings'))[0], 'names')).length, 100, 'of which a hundred are named');
  t.ok(ms < 2000, `${Math.round(ms)} ms`);
  const other = await plan('innocent');
  t.ok(other.status === 200 && other.ms < 2000, `${Math.round(other.ms)} ms for another record`);
  await rm(recordOf('many'), { recursive: true });
});

t.test('a volume whose path lies in the root or in another volume is refused', async (t) => {
  const own = /dir:(\S+)\/rootfs/.exec(String(part(part(part(good, 'container'), 'native'), 'text')))?.[1] ?? '';
  const [file, data] = list(part(part(good, 'container'), 'volume')).map((one) => String(part(one, 'path')));
  t.ok(own.startsWith('/') && data?.startsWith(own) && file?.startsWith(own), 'the sample has volumes of its own');
  for (const [name, index, path] of [
    ['in-root', 1, `${own}/rootfs/etc`],
    ['in-volume', 0, `${data}/x`],
  ] as const) {
    await cp(sample, recordOf(name), { recursive: true });
    await craftedRecord(name, inFormat2(JSON.stringify(changed(good, ['container', 'volume', index, 'path'], path))));
    const state = await restoredAs(name, name);
    t.match(state, { result: -1, error: { code: 'damaged', message: / inside / } }, name);
    t.notOk((await readdir(a.lxcPath)).includes(name), `${name}: nothing was made`);
    await rm(recordOf(name), { recursive: true });
  }
});

t.test('the good record is restored after all that', async (t) => {
  a.alsoDestroy('last');
  t.match(await restoredAs('last', 'innocent'), { result: 0, run });
});
