/** An update from its first byte to the restart. RAUC is real. Its install is replaced only where it needs a device mapper. */
import { createReadStream } from 'node:fs';
import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { ServiceError } from '../../core/primitives/service-error.js';
import { BundleFolder } from '../../core/update/bundle.js';
import { openRauc, type Rauc } from '../../core/update/rauc.js';
import { type UpdateDeps, UpdateService } from '../../core/update/service.js';
import { RaucBed } from '../support/servers/rauc-bed.js';

const never = new AbortController().signal;

interface Bench {
  readonly updates: UpdateService;
  readonly folder: string;
  /** What happened, in order. */
  readonly events: string[];
  readonly closing: AbortController;
  readonly logged: string[];
  again(): Promise<UpdateService>;
}

async function codeOf(action: Promise<unknown>): Promise<string> {
  return action.then(
    () => 'done',
    (error: unknown) => (error instanceof ServiceError ? error.code : String(error)),
  );
}

/** A folder of the suite's own; `install` in place of RAUC's. */
async function bench(t: Test, bed: RaucBed, o: Partial<UpdateDeps> & { readonly install?: Rauc['install'] } = {}): Promise<Bench> {
  process.env.DBUS_SYSTEM_BUS_ADDRESS = bed.environment.DBUS_SYSTEM_BUS_ADDRESS;
  const folder = await mkdtemp(join(tmpdir(), 'updates-'));
  const events: string[] = [];
  const logged: string[] = [];
  const closing = new AbortController();
  const real = openRauc(bed.config);
  const make = async () => {
    const updates = new UpdateService({
      rauc: { ...real, ...(o.install && { install: o.install }) },
      bundles: new BundleFolder(folder),
      version: async () => '',
      jobs: {
        hold: () => {
          events.push('hold');
          return () => void events.push('free');
        },
        running: async () => [],
      },
      restart: async () => void events.push('restart'),
      stallMs: 5000,
      signal: closing.signal,
      log: (level, message) => void logged.push(`${level} ${message}`),
      ...o,
    });
    await updates.open();
    return updates;
  };
  const updates = await make();
  t.teardown(async () => {
    closing.abort();
    await updates.close();
    await rm(folder, { recursive: true });
  });
  return { updates, folder, events, closing, logged, again: make };
}

async function send(updates: UpdateService, file: string): Promise<unknown> {
  return updates.receive(() => createReadStream(file), (await stat(file)).size, never);
}

/** The status, once the update has come to an end. */
async function ended(updates: UpdateService) {
  for (;;) {
    const status = await updates.status();
    if (status.state !== 'checking' && status.state !== 'installing') return status;
    await sleep(10);
  }
}

t.test('a bundle is received, installed and the machine restarts', async (t) => {
  const bed = await RaucBed.start(t, { version: '1.2.3' });
  const seen: string[] = [];
  const install: Rauc['install'] = async (_bundle, progress) => {
    for (const percent of [0, 40, 100]) {
      progress(percent);
      const { state, progress: told } = await b.updates.status();
      seen.push(`${state} ${told}`);
    }
    t.equal(await codeOf(b.updates.install({ force: false, reboot: false })), 'busy', 'a second one');
    t.equal(await codeOf(send(b.updates, file)), 'busy', 'another bundle');
    t.equal(await codeOf(b.updates.discard()), 'busy', 'taking it away');
    t.equal(await codeOf(b.updates.restart({ force: true })), 'busy', 'a restart, even by force');
  };
  const b = await bench(t, bed, { install });
  const file = await bed.bundle({ version: '1.3.0' });
  const slots = [
    { name: 'A', booted: true, primary: true, good: true, version: '1.2.3', installed_at: '2026-01-31T09:30:00Z' },
    { name: 'B', booted: false, primary: false, good: true, version: '', installed_at: '' },
  ];
  t.same(await b.updates.status(), { compatible: 'board-x', slot: 'A', slots, version: '1.2.3', state: 'idle', progress: 0 });
  t.equal(await codeOf(b.updates.install({ force: true, reboot: false })), 'not_found', 'there is nothing yet');
  t.equal(await codeOf(b.updates.discard()), 'not_found');
  const pending = {
    version: '1.3.0',
    compatible: 'board-x',
    signed_by: 'O = Test, CN = release',
    description: '',
    build: '',
    downgrade: false,
  };
  t.same(await send(b.updates, file), pending);
  t.match(await b.updates.status(), { state: 'idle', pending });
  t.same(await readdir(b.folder), ['bundle.raucb']);
  t.equal((await stat(join(b.folder, 'bundle.raucb'))).mode & 0o777, 0o600);
  t.same((await (await b.again()).status()).pending, pending, 'a later service finds it');
  await b.updates.install({ force: false, reboot: true });
  t.match(await b.updates.status(), { state: /checking|installing/ }, 'it has begun when that is answered');
  const { state, progress, pending: left } = await ended(b.updates);
  t.same({ state, progress, left }, { state: 'installed', progress: 100, left: undefined });
  await b.updates.close();
  t.same(seen, ['installing 0', 'installing 40', 'installing 100']);
  t.same(b.events, ['hold', 'restart'], 'no job starts between the install and the restart');
  t.same(await readdir(b.folder), [], 'and its room is free again');
});

t.test('an update is refused while jobs run, and interrupts none', async (t) => {
  const bed = await RaucBed.start(t);
  const running = ['backup 3 (web)', 'restore 1 (db)'];
  const events: string[] = [];
  const hold = () => {
    events.push('hold');
    return () => void events.push('free');
  };
  const b = await bench(t, bed, { jobs: { hold, running: async () => running }, restart: async () => void events.push('restart') });
  await send(b.updates, await bed.bundle());
  await t.rejects(b.updates.install({ force: true, reboot: false }), {
    code: 'busy',
    message: /backup 3 \(web\), restore 1 \(db\) must end first/,
  });
  await t.rejects(b.updates.restart({ force: false }), { code: 'busy', message: /backup 3/ });
  t.same(events, ['hold', 'free', 'hold', 'free'], 'what waits may start');
  t.match(await b.updates.status(), { state: 'idle' });
  await b.updates.restart({ force: true });
  t.same(events.slice(4), ['hold', 'restart']);
  const stuck = await bench(t, bed, { restart: () => Promise.reject(new Error('no systemd here')) });
  await t.rejects(stuck.updates.restart({ force: false }), { code: 'failed', message: /no systemd here/ });
  t.same(stuck.events, ['hold', 'free']);
});

t.test('an older version is installed by force only', async (t) => {
  const bed = await RaucBed.start(t, { version: '1.2.3-5-gabcdef' });
  let installed = 0;
  const b = await bench(t, bed, { install: async () => void installed++ });
  t.match(await send(b.updates, await bed.bundle({ version: '1.2.3-4-g123456' })), { downgrade: true });
  t.match(await b.updates.status(), { pending: { downgrade: true } });
  await t.rejects(b.updates.install({ force: false, reboot: false }), {
    code: 'downgrade',
    message: /1\.2\.3-4-g123456 is older than the running 1\.2\.3-5-gabcdef/,
  });
  t.equal(installed, 0);
  t.match(await b.updates.status(), { state: 'idle', pending: {} }, 'it is still there');
  await b.updates.install({ force: true, reboot: false });
  t.match(await ended(b.updates), { state: 'installed' });
  t.equal(installed, 1);
  await b.updates.close();
  t.same(b.events, ['hold', 'free']);
  t.match(await send(b.updates, await bed.bundle({ version: '1.2.3-5-gabcdef' })), { downgrade: false }, 'the same once more is none');
  const other = await bench(t, bed, { version: async () => '1.2.3-3-gabc' });
  t.match(
    await send(other.updates, await bed.bundle({ version: '1.2.3-4-g123456' })),
    { downgrade: false },
    'what runs says its version first',
  );
});

t.test('a failed install of the real RAUC leaves the slot as it was and restarts nothing', async (t) => {
  const bed = await RaucBed.start(t);
  const b = await bench(t, bed);
  const before = await bed.slot('root-b');
  await send(b.updates, await bed.bundle());
  await b.updates.install({ force: false, reboot: true });
  const status = await ended(b.updates);
  // Without a device mapper no verity bundle can be mounted. A machine that has one installs it, to a slot that is a file.
  if (status.state === 'failed') {
    t.match(status, {
      error: { code: 'install_failed', message: /the update was not installed: .*device.mapper|dev\/mapper/i },
      pending: {},
    });
    t.ok(before.equals(await bed.slot('root-b')), 'the slot is untouched');
    t.same(b.events, ['hold', 'free'], 'jobs go on, and nothing restarts');
    t.match(b.logged.join('\n'), /error an update failed/);
  } else t.match(status, { state: 'installed' });
});

t.test('a bit that flips between upload and install fails the install before RAUC is called', async (t) => {
  const bed = await RaucBed.start(t);
  let installed = 0;
  const b = await bench(t, bed, { install: async () => void installed++ });
  await send(b.updates, await bed.bundle());
  {
    await using handle = await open(join(b.folder, 'bundle.raucb'), 'r+');
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, 500_000);
    await handle.write(Buffer.from([(byte[0] ?? 0) ^ 4]), 0, 1, 500_000);
  }
  await b.updates.install({ force: true, reboot: true });
  t.match(await ended(b.updates), { state: 'failed', error: { code: 'damaged_bundle', message: /block differs from the signed one/ } });
  await b.updates.close();
  t.equal(installed, 0, 'RAUC was not asked');
  t.same(b.events, ['hold', 'free']);
  t.same(await readdir(b.folder), [], 'it is worth nothing and gone');
});

t.test('a failed upload leaves no file', async (t) => {
  const bed = await RaucBed.start(t);
  const b = await bench(t, bed, { stallMs: 200 });
  const file = await bed.bundle();
  const { size } = await stat(file);
  const half = () => createReadStream(file, { end: Math.floor(size / 2) });
  async function* slowly(pause: number) {
    for await (const chunk of half()) yield chunk;
    await sleep(pause);
  }
  t.equal(await codeOf(b.updates.receive(() => Readable.from(slowly(3000)), size, never)), 'stalled');
  const gone = new AbortController();
  setTimeout(() => gone.abort(), 50);
  t.equal(await codeOf(b.updates.receive(() => Readable.from(slowly(150)), size, gone.signal)), 'aborted');
  t.equal(await codeOf(b.updates.receive(half, size, never)), 'damaged_bundle', 'half of one');
  t.equal(await codeOf(b.updates.receive(() => Readable.from([Buffer.from('no bundle')]), 9, never)), 'damaged_bundle');
  t.equal(await codeOf(b.updates.receive(half, 1e15, never)), 'no_space');
  t.same(await readdir(b.folder), []);
  t.match(await b.updates.status(), { state: 'idle', pending: undefined });
  await send(b.updates, file);
  const { pending } = await b.updates.status();
  t.equal(await codeOf(b.updates.receive(half, 1e15, never)), 'no_space');
  t.same((await b.updates.status()).pending, pending, 'one that cannot fit does not cost the one that is there');
  await b.updates.discard();
  t.same(await readdir(b.folder), []);
  t.equal((await b.updates.status()).pending, undefined);
});

t.test('closing the service aborts the install', async (t) => {
  const bed = await RaucBed.start(t);
  const install: Rauc['install'] = (_bundle, _progress, signal) =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new ServiceError('aborted', 'stopped'))));
  const b = await bench(t, bed, { install });
  await send(b.updates, await bed.bundle());
  await b.updates.install({ force: false, reboot: true });
  while ((await b.updates.status()).state !== 'installing') await sleep(10);
  b.closing.abort();
  await b.updates.close();
  t.same(b.events, ['hold', 'free'], 'it does not restart');
  t.same(await readdir(b.folder), ['bundle.raucb']);
});

t.test('the real RAUC installs a bundle, reports progress and changes its slots', async (t) => {
  const bed = await RaucBed.start(t, { version: '1.0' });
  process.env.DBUS_SYSTEM_BUS_ADDRESS = bed.environment.DBUS_SYSTEM_BUS_ADDRESS;
  const rauc = openRauc(bed.config);
  const percents: number[] = [];
  // The plain format is mounted without a device mapper; the service takes verity only.
  await rauc.install(await bed.bundle({ format: 'plain', version: '2.0' }), (percent) => percents.push(percent), never);
  t.same([percents[0], percents.at(-1)], [0, 100]);
  t.ok(percents.length > 5, `${percents}`);
  const { slots } = await rauc.status(never);
  t.match(slots, [
    { name: 'A', booted: true, primary: false, version: '1.0' },
    { name: 'B', booted: false, primary: true, good: true, version: '2.0', installed_at: /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/ },
  ]);
  const foreign = await bed.bundle({ keys: await bed.newKeys('evil') });
  await t.rejects(
    rauc.install(foreign, () => undefined, never),
    { code: 'install_failed', message: /signature verification failed/ },
  );
  t.equal(await codeOf(rauc.install(foreign, () => undefined, AbortSignal.abort())), 'aborted');
  process.env.DBUS_SYSTEM_BUS_ADDRESS = 'unix:path=/nowhere';
  await t.rejects(rauc.status(never), { code: 'unavailable', message: /service does not answer/ });
});
