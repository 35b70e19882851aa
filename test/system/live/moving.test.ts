/** A run that read moving files says which, on both engines, and what to do about it. */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { part } from '../../support/api-client.js';
import { makeAppliance, ownDockerd } from '../../support/appliance.js';
import { list } from '../bed/request-bodies.js';
import { backUp, makeJob, settle } from '../fidelity/bench.js';

const exec = promisify(execFile);
const dockerd = await ownDockerd(t);
const a = await makeAppliance(t, { dockerd, flags: ['--big-file-mib', '1'] });

interface Warned {
  readonly count: number;
  readonly names: readonly string[];
  readonly message: string;
  readonly fix: string;
}

/** The warning of a run about files that moved. */
async function movingIn(job: number, run: string): Promise<Warned | undefined> {
  const warnings = part(await a.service.call('GET', `/backup/${job}/runs/${run}`), 'warnings');
  const found = list(warnings).find((one) => part(one, 'code') === 'moving_files');
  if (found === undefined) return undefined;
  const [message, fix] = [part(found, 'message'), part(found, 'fix')].map(String);
  return {
    count: Number(part(found, 'count')),
    names: list(part(found, 'names')).map(String),
    message: message ?? '',
    fix: fix ?? '',
  };
}

/** Appends to files every few milliseconds until the test ends, as a program of the NAS does. */
function keepWriting(t: Test, paths: readonly string[]): void {
  let isOver = false;
  const writing = (async () => {
    for (let n = 0; !isOver; n++, await sleep(5)) for (const path of paths) await writeFile(path, `${n}\n`, { flag: 'a' });
  })();
  t.teardown(async () => {
    isOver = true;
    await writing;
  });
}

async function makeSqlite(path: string): Promise<void> {
  const sql = 'create table t(x); insert into t values(zeroblob(100000))';
  await exec('python3', ['-c', 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2])', path, sql]);
}

for (const features of [[], ['pause']] as const) {
  t.test(`files that a program of the NAS writes are named, ${features.length > 0 ? 'with' : 'without'} a pause`, async (t) => {
    const name = `outside${features.length}`;
    const data = join(a.folder, `${name}-srv`);
    await mkdir(data);
    await a.lxc(name, { lines: [`lxc.mount.entry = ${data} srv none bind,create=dir 0 0`] });
    const [log = '', big = '', database = ''] = ['app.log', 'big.img', 'notes.sqlite'].map((file) => join(data, file));
    await writeFile(big, Buffer.alloc(4 << 20, 1));
    await makeSqlite(database);
    await settle();
    const own = join(a.lxcPath, name, 'volumes/data/own.log'); // in a folder that only the container should write to
    keepWriting(t, [log, big, database, own]);
    const job = await makeJob(a.service, { name, container: name, type: 'lxc', features });
    for (const what of ['a base', 'a level']) {
      const moving = await movingIn(job, await backUp(a.service, job));
      const files = moving?.names.map((one) => one.split(':/')[1]).toSorted();
      t.same(files, ['app.log', 'big.img', 'notes.sqlite', 'own.log'], `${what}: the four files`);
      t.equal(moving?.count, 4);
      t.match(moving?.message, /Databases among them: SQLite \([^)]*notes\.sqlite\)/);
      t.match(moving?.fix, features.length > 0 ? /outside outside1 writes to / : /Add pause/);
      t.match(moving?.fix, /sqlite3 with \.backup/);
    }
  });
}

t.test('what a paused container writes itself is no warning', async (t) => {
  await a.lxc('inside');
  const data = join(a.lxcPath, 'inside/volumes/data');
  await writeFile(join(data, 'big.img'), Buffer.alloc(4 << 20, 1));
  await settle();
  const loop = 'while :; do echo x >> /data/app.log; echo x >> /data/big.img; /bin/busybox usleep 2000; done';
  const writer = execFile('lxc-attach', ['-P', a.lxcPath, '-n', 'inside', '--', '/bin/sh', '-c', loop]);
  t.teardown(() => writer.kill());
  const [paused, live] = await Promise.all(
    [['pause'], []].map((features) => makeJob(a.service, { name: `inside${features}`, container: 'inside', type: 'lxc', features })),
  );
  for (let n = 0; n < 3; n++) t.equal(await movingIn(paused ?? 0, await backUp(a.service, paused ?? 0)), undefined, 'paused');
  t.same((await movingIn(live ?? 0, await backUp(a.service, live ?? 0)))?.names, ['data:/app.log', 'data:/big.img'], 'not paused');
});

t.test('Docker: another container that writes to the shared volume is named', async (t) => {
  await dockerd.sampleImage('sample:1');
  const loop = 'while :; do echo x > /data/app.log; done'; // without a break: the file is read within a millisecond
  const make = (name: string, Cmd: readonly string[]) =>
    dockerd.run(name, { Image: 'sample:1', Cmd, StopSignal: 'SIGKILL', HostConfig: { NetworkMode: 'none', Binds: ['shared:/data'] } });
  await make('mail', ['/bin/sleep', '100000']);
  await make('indexer', ['/bin/sh', '-c', loop]);
  const job = await makeJob(a.service, { name: 'mail', container: 'mail', type: 'docker', features: ['pause'] });
  let moving: Warned | undefined;
  for (let n = 0; n < 8 && moving === undefined; n++) moving = await movingIn(job, await backUp(a.service, job)); // it may not write just then
  t.same(moving?.names, ['shared:/app.log']);
  t.match(moving?.fix, /is used by .*indexer as well/);
});
