/** Updates of the whole service over HTTP, with the real RAUC. */
import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { RaucBed } from '../../support/servers/rauc-bed.js';
import { ballast, ballastFlags, heldChild } from '../bed/held-run.js';
import { ownFileSystem } from '../bed/own-file-system.js';
import { sentBlindly } from '../rules/blind-client.js';

const run = promisify(execFile);

interface Sent {
  readonly status: number;
  readonly json: unknown;
}

/** Sends a file with its length, or in chunks without one. */
async function send(a: Appliance, body: string | Readable): Promise<Sent> {
  const length = typeof body === 'string' ? { 'content-length': (await stat(body)).size } : {};
  const headers = { cookie: a.service.cookie, accept: 'application/problem+json', 'content-type': 'application/octet-stream', ...length };
  return new Promise((resolve, reject) => {
    const sent = request(`${a.service.address}/api/v1/update/bundle`, { method: 'PUT', headers, agent: false }, async (answer) => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      resolve({ status: answer.statusCode ?? 0, json: JSON.parse(text) });
    });
    sent.on('error', reject);
    (typeof body === 'string' ? createReadStream(body) : body).pipe(sent);
  });
}

const code = (name: string) => `urn:container-backup:error:${name}`;

async function withUpdates(t: Test, bed: RaucBed, more: readonly string[] = []): Promise<Appliance> {
  const flags = ['--update', 'rauc', '--rauc-config', bed.config, ...more];
  return makeAppliance(t, { environment: bed.environment, flags: [...flags, ...ballastFlags] });
}

t.test('a good bundle is accepted, and a foreign, damaged or older one is refused', async (t) => {
  const bed = await RaucBed.start(t, { version: '1.2.3' });
  const a = await withUpdates(t, bed);
  const folder = join(a.stateFolder, 'update');
  t.match(await a.service.call('GET', '/update/'), {
    ...{ compatible: 'board-x', version: '1.2.3', slot: 'A', state: 'idle', progress: 0 },
    slots: [
      { name: 'A', booted: true, good: true, version: '1.2.3', installed_at: '2026-01-31T09:30:00Z' },
      { name: 'B', booted: false, good: true, version: '' },
    ],
  });
  const untouched = await Promise.all(['root-a', 'root-b', 'boot-a', 'boot-b'].map((name) => bed.slot(name)));
  const whole = await bed.bundle({ version: '1.3.0', bytes: 8 << 20 });
  t.match(await send(a, whole), { status: 200, json: { version: '1.3.0', compatible: 'board-x', signed_by: 'O = Test, CN = release' } });
  t.match(await send(a, createReadStream(whole)), { status: 200, json: { version: '1.3.0' } }, 'in chunks, in the place of the first');
  t.match(await a.service.call('GET', '/update/'), { pending: { version: '1.3.0', downgrade: false } });
  await a.restart({ kill: true });
  t.match(await a.service.call('GET', '/update/'), { pending: { version: '1.3.0' } }, 'it is there after a crash');
  await a.service.call('DELETE', '/update/bundle');
  t.same(await readdir(folder), []);
  const evil = await bed.bundle({ keys: await bed.newKeys('evil') });
  t.match(await send(a, evil), { status: 422, json: { type: code('untrusted_bundle'), detail: /does not trust who signed/ } });
  const other = await bed.bundle({ compatible: 'board-y' });
  t.match(await send(a, other), { status: 422, json: { type: code('incompatible_bundle'), detail: /is for board-y, this is board-x/ } });
  const bytes = await readFile(whole);
  for (const at of [0, 4096, bytes.length >> 1, bytes.length - 2000, bytes.length - 1]) {
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    t.match(
      await send(a, Readable.from([bytes])),
      { status: 422, json: { type: code('damaged_bundle'), detail: /get it again/ } },
      `byte ${at}`,
    );
    bytes[at] = (bytes[at] ?? 0) ^ 1;
  }
  t.match(await send(a, Readable.from([bytes.subarray(0, 5000)])), { status: 422, json: { type: code('damaged_bundle') } });
  t.same(await readdir(folder), [], 'nothing is left over');
  const after = await Promise.all(['root-a', 'root-b', 'boot-a', 'boot-b'].map((name) => bed.slot(name)));
  t.ok(
    after.every((slot, at) => slot.equals(untouched[at] ?? Buffer.alloc(0))),
    'no slot was touched',
  );
  t.match(await a.service.ask('POST', '/update/install', {}), { status: 404 });
  t.match(await send(a, await bed.bundle({ version: '1.2.2' })), { status: 200, json: { downgrade: true } });
  const refused = await a.service.ask('POST', '/update/install', {}, { accept: 'application/problem+json' });
  t.match(refused, { status: 409, json: { type: code('downgrade'), detail: /1\.2\.2 is older than the running 1\.2\.3/ } });
  t.match(await a.service.ask('POST', '/update/install?force=1'), { status: 202, json: { state: /checking|installing|failed/ } });
  let status: unknown;
  do status = await a.service.call('GET', '/update/');
  while (/checking|installing/.test(String(part(status, 'state'))));
  // Without a device mapper RAUC comes no further. This machine may lack only that.
  if (part(status, 'state') === 'failed') t.match(status, { error: { code: 'install_failed', message: /mapper/ } });
});

t.test('a bundle that does not fit is refused with no_space', async (t) => {
  const bed = await RaucBed.start(t);
  const folder = join(bed.folder, 'small');
  await mkdir(folder);
  await ownFileSystem(t, join(bed.folder, 'image'), folder, 64 << 20);
  const a = await withUpdates(t, bed, ['--update-folder', folder]);
  const before = (await readdir(folder)).sort();
  const large = join(bed.folder, 'large');
  await writeFile(large, '');
  await truncate(large, 100 << 20);
  const refused = await send(a, large);
  t.match(refused, { status: 507, json: { type: code('no_space'), detail: /^\d+ bytes are missing in \S+small for the bundle/ } });
  t.match(
    await sentBlindly(a.service, 'PUT /api/v1/update/bundle', 100 << 20),
    /^HTTP\/1\.1 507 .*no_space/s,
    'a client that reads nothing before it has sent all is told, too',
  );
  const missing = Number(/^\d+/.exec(String(part(refused.json, 'detail')))?.[0]);
  t.ok(missing > 36 << 20 && missing < 70 << 20, `${missing} bytes are missing for 100 MiB on 64`);
  t.match(
    await send(a, createReadStream(large)),
    { status: 507, json: { type: code('no_space') } },
    'one that does not say how long it is',
  );
  t.same((await readdir(folder)).sort(), before, 'nothing is left over');
  // A client with `Expect: 100-continue` gets the refusal before it sends the body.
  const put = ['-s', '-o', '/dev/null', '-w', '%{http_code} %{size_upload}', '-b', a.service.cookie, '-T', large];
  const url = `${a.service.address}/api/v1/update/bundle`;
  t.equal((await run('curl', [...put, '--expect100-timeout', '20', '-H', 'Expect: 100-continue', url])).stdout, '507 0');
  t.match(await send(a, await bed.bundle({ bytes: 20 << 20 })), { status: 200 }, 'what fits is taken');
  t.match(await send(a, await bed.bundle({ bytes: 20 << 20 })), { status: 200 }, 'and another in its place, though both would not fit');
});

t.test('a client that disconnects and a service that ends leave no unfinished upload', async (t) => {
  const bed = await RaucBed.start(t);
  const a = await withUpdates(t, bed);
  const folder = join(a.stateFolder, 'update');
  const begin = async () => {
    const headers = { cookie: a.service.cookie, 'content-length': 50 << 20 };
    const sent = request(`${a.service.address}/api/v1/update/bundle`, { method: 'PUT', headers, agent: false });
    sent.on('error', () => undefined);
    sent.write(Buffer.alloc(1 << 20));
    for (let tries = 0; tries < 1500 && !(await readdir(folder)).includes('bundle.raucb.part'); tries++) await sleep(20);
    t.same(await readdir(folder), ['bundle.raucb.part']);
    return sent;
  };
  const first = await begin();
  t.equal((await a.service.ask('DELETE', '/update/bundle')).status, 409, 'one at a time');
  t.match(await send(a, Readable.from(['x'])), { status: 409, json: { type: code('busy'), retryable: true } });
  first.destroy();
  for (let tries = 0; tries < 1500 && (await readdir(folder)).length > 0; tries++) await sleep(20);
  t.same(await readdir(folder), [], 'gone with the client');
  for (let n = 0; n < 30; n++) {
    const headers = { cookie: a.service.cookie, 'content-length': 50 << 20 };
    const hasty = request(`${a.service.address}/api/v1/update/bundle`, { method: 'PUT', headers, agent: false });
    hasty.on('error', () => undefined).write('x');
    await sleep(n / 3);
    hasty.destroy();
  }
  // The last of them may still be asking RAUC for its slots: then the service is busy, without a file yet.
  const removal = async () => (await a.service.ask('DELETE', '/update/bundle')).status;
  for (let tries = 0; tries < 1500 && (await removal()) === 409; tries++) await sleep(20);
  t.equal(await removal(), 404, 'nothing is being received');
  t.same(await readdir(folder), [], 'and with those that hardly came');
  t.match(await a.service.call('GET', '/update/'), { state: 'idle' });
  await begin();
  const began = Date.now();
  await a.restart();
  t.ok(Date.now() - began < 10_000, `it ends in the middle of one: ${Date.now() - began} ms with the start`);
  t.same(await readdir(folder), []);
  await begin();
  await a.restart({ kill: true });
  t.same(await readdir(folder), [], 'what a crash left goes at the start');
});

t.test('an update is refused until the running job has ended', async (t) => {
  const bed = await RaucBed.start(t);
  const a = await withUpdates(t, bed);
  await a.lxc('busy', { stopped: true });
  await ballast(join(a.lxcPath, 'busy/rootfs/ballast'));
  const dest = { target: 'local', path: '/test/b' };
  const id = await a.service.create('backup', { job_name: 'nightly', container_id: 'busy', type: 'lxc', dest, at: notSoon() });
  const held = heldChild(a.service, 'tar');
  await a.service.call('PUT', `/backup/${id}/run`);
  const tar = await held;
  t.match(await send(a, await bed.bundle()), { status: 200 }, 'a bundle is taken while it runs');
  for (const path of ['install', 'reboot']) {
    const answer = await a.service.ask('POST', `/update/${path}`, {}, { accept: 'application/problem+json' });
    t.match(answer, { status: 409, json: { type: code('busy'), detail: /backup 1 \(nightly\) must end first/ } }, path);
  }
  t.match(await a.service.call('GET', '/update/'), { state: 'idle', pending: {} });
  tar.release();
  await a.service.ended('backup', id);
  t.equal((await a.service.ask('POST', '/update/install')).status, 202, 'then it begins');
});

t.test('a large bundle takes bounded memory', async (t) => {
  const bed = await RaucBed.start(t);
  const a = await withUpdates(t, bed);
  const peak = async () => Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${a.service.pid}/status`, 'utf8'))?.[1]) >> 10;
  const file = join(bed.folder, 'zeros');
  await using handle = await open(file, 'w');
  await handle.truncate(400 << 20);
  const before = await peak();
  const began = performance.now();
  t.match(await send(a, file), { status: 422, json: { type: code('damaged_bundle') } });
  const seconds = (performance.now() - began) / 1000;
  const grown = (await peak()) - before;
  t.comment(`400 MiB in ${seconds.toFixed(1)} s; ${grown} MiB more at the peak`);
  t.ok(grown < 100, `${grown} MiB`);
  const large = await bed.bundle({ bytes: 200 << 20 });
  const checked = performance.now();
  t.match(await send(a, large), { status: 200 });
  t.comment(`a whole one of 200 MiB in ${((performance.now() - checked) / 1000).toFixed(1)} s, checked`);
  t.ok((await peak()) - before < 120, `${(await peak()) - before} MiB`);
});
