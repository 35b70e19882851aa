/** Runs of real containers that would conflict. The queue separates them on one appliance, the lock of the record on a target. */
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Body, notSoon, part } from '../../support/api-client.js';
import { type Appliance, makeAppliance } from '../../support/appliance.js';
import { lxc } from '../../support/lxc.js';
import { ballast, ballastFlags, type HeldRun, heldChild } from '../bed/held-run.js';
import { list } from '../bed/request-bodies.js';

t.jobs = 3; // each has a service of its own and mostly waits

const lockPrefix = '.container-backup-lock-';

const backupBody = (container: string, more: Body = {}): Body => ({
  job_name: container,
  container_id: container,
  type: 'lxc',
  dest: { target: 'local', path: '/test/locks' },
  at: notSoon(),
  features: ['pause'],
  ...more,
});

const restoreBody = (from: string, to: string): Body => ({
  job_name: `${from} as ${to}`,
  container_id: to,
  type: 'lxc',
  src: { target: 'local', path: '/test/locks', portfolio: from },
});

const recordOf = (a: Appliance, name: string): string => join(a.share, 'locks', `container-backup@${name}`);

async function codeOf({ service }: Appliance, kind: 'backup' | 'restore', id: number): Promise<string> {
  return String(part(part(await service.call('GET', `/${kind}/${id}`), 'state'), 'code'));
}

/** A restore that is suspended while it extracts. */
async function heldRestore(a: Appliance, from: string, to: string): Promise<{ readonly id: number; readonly held: HeldRun }> {
  const holding = heldChild(a.service, 'tar');
  const id = await a.service.create('restore', restoreBody(from, to));
  return { id, held: await holding };
}

t.test('a waiting backup that is changed to a container under restore waits for the restore', async (t) => {
  const a = await makeAppliance(t, { flags: ballastFlags });
  for (const name of ['one', 'two']) await a.lxc(name);
  await ballast(join(a.lxcPath, 'two/volumes/data/ballast'), 48); // so large that its tar can be suspended
  const two = await a.service.create('backup', backupBody('two'));
  await a.service.backUp(two);
  const id = await a.service.create('backup', backupBody('one', { dest: { target: 'local', path: '/test/elsewhere' } }));
  await a.service.call('PUT', '/preference/', { backup_concurrent: 1 });
  const restore = await heldRestore(a, 'two', 'two');
  await a.service.call('PUT', `/backup/${id}/run`);
  await a.service.call('PUT', `/backup/${id}`, { container_id: 'two' });
  await a.service.call('PUT', '/preference/', { backup_concurrent: 3 });
  const other = await a.service.create('backup', backupBody('one', { job_name: 'other' }));
  await a.service.backUp(other); // the queue could start one more, and has looked for it
  t.equal(await codeOf(a, 'backup', id), 'waiting');
  t.equal(await codeOf(a, 'restore', restore.id), 'running');
  restore.held.release();
  await a.service.ended('restore', restore.id);
  const { run } = await a.service.ended('backup', id);
  t.match(await a.service.call('GET', `/backup/${id}/runs/${run}`), { container: { name: 'two' } }, 'it backed up what it is about');
  t.equal(await lxc('info', a.lxcPath, 'two', '-sH'), 'RUNNING', 'the container is not left frozen');
});

t.test('a run with retention and a purge wait for a restore that reads the record', async (t) => {
  const a = await makeAppliance(t, { flags: ballastFlags });
  for (const name of ['removed', 'small']) await a.lxc(name);
  await ballast(join(a.lxcPath, 'removed/volumes/data/ballast'), 48);
  for (const name of ['copy', 'second']) a.alsoDestroy(name);
  const other = await a.service.create('backup', backupBody('small')); // once it has run, every job that can start has started
  const id = await a.service.create('backup', backupBody('removed', { retention: 2 }));
  for (let n = 0; n < 2; n++) await a.service.backUp(id);
  const first = await heldRestore(a, 'removed', 'copy');
  await a.service.call('PUT', `/backup/${id}/run`);
  await a.service.backUp(other);
  t.equal(await codeOf(a, 'backup', id), 'waiting', 'a run with its retention');
  first.held.release();
  await a.service.ended('restore', first.id);
  await a.service.ended('backup', id);

  const second = await heldRestore(a, 'removed', 'second');
  const purged = a.service.ask('DELETE', `/backup/${id}?purge=true`);
  while ((await a.service.ask('PUT', `/backup/${id}/run`)).status !== 409) await sleep(10);
  t.equal((await a.service.ask('PUT', `/backup/${id}`, { retention: 3 })).status, 409, 'nor is it changed any more');
  await a.service.backUp(other);
  t.ok((await readdir(recordOf(a, 'removed'))).filter((name) => name.startsWith('20')).length >= 2, 'a purge has not begun');
  second.held.release();
  await a.service.ended('restore', second.id);
  t.same((await purged).json, [id]);
  t.same(await readdir(join(a.share, 'locks')), ['container-backup@small'], 'the record is gone, with its lock');
  t.equal((await a.service.ask('GET', `/backup/${id}`)).status, 404);
});

t.test('a purge without its target keeps the job, and succeeds once the target is back', async (t) => {
  const a = await makeAppliance(t, { flags: ballastFlags });
  await a.lxc('away');
  const id = await a.service.create('backup', backupBody('away'));
  await a.service.backUp(id);
  await rename(a.share, `${a.share}-away`);
  await mkdir(a.share); // as when the disk is not mounted
  const failed = await a.service.ask('DELETE', `/backup/${id}?purge=true`);
  t.equal(failed.status, 503);
  t.match(failed.text, /not mounted/);
  t.equal(await codeOf(a, 'backup', id), 'scheduled', 'the job is there');
  await rmdir(a.share);
  await rename(`${a.share}-away`, a.share);
  t.match(await a.service.backUp(id), { result: 0 }, 'and can run');
  t.same((await a.service.ask('DELETE', `/backup/${id}?purge=true`)).json, [id]);
  t.same(await readdir(join(a.share, 'locks')), []);
});

t.test('SIGTERM refuses a waiting undo with 503 and lets a running one finish', async (t) => {
  const a = await makeAppliance(t, { flags: ballastFlags });
  await a.lxc('undoing');
  const file = join(a.lxcPath, 'undoing/volumes/data/file');
  await ballast(join(a.lxcPath, 'undoing/volumes/data/ballast'), 48);
  const id = await a.service.create('backup', backupBody('undoing', { features: [] }));
  await a.service.backUp(id);
  await writeFile(file, 'worth keeping');
  const restore = await a.service.create('restore', restoreBody('undoing', 'undoing'));
  await a.service.ended('restore', restore);

  const holding = heldChild(a.service, 'tar');
  await a.service.call('PUT', `/backup/${id}/run`);
  const held = await holding;
  const waiting = a.service.ask('PUT', `/restore/${restore}/undo`);
  for (let n = 0; n < 3; n++) await a.service.call('GET', `/restore/${restore}`); // earlier requests have reached the queue by then
  a.service.child.kill('SIGTERM');
  t.equal((await waiting).status, 503, 'one that waits');
  held.release();
  await a.restart();
  t.ok(part(part(await a.service.call('GET', `/restore/${restore}?view=full`), 'state'), 'undo'), 'it is still kept');

  const going = a.service.ask('PUT', `/restore/${restore}/undo?view=full`);
  while (
    (await readFile(file, 'utf8').catch(() => '')) === 'data of undoing\n' &&
    (await lxc('info', a.lxcPath, 'undoing', '-sH')) === 'RUNNING'
  )
    await sleep(1);
  a.service.child.kill('SIGTERM');
  const answer = await going;
  t.equal(answer.status, 200, `one that goes on: ${answer.text}`);
  await a.restart();
  t.equal(await readFile(file, 'utf8'), 'worth keeping');
  t.equal(await lxc('info', a.lxcPath, 'undoing', '-sH'), 'RUNNING');
  t.equal((await a.service.ask('PUT', `/restore/${restore}/undo`)).status, 404, 'and the job says so');
});

/** Runs that the service reported as good although some of their files are missing. */
async function lostRuns(a: Appliance, job: number, told: readonly string[], record = recordOf(a, 'web')): Promise<string[]> {
  const lost: string[] = [];
  for (const run of told) {
    const { status, json } = await a.service.ask('GET', `/backup/${job}/runs/${run}`);
    const archives = list(part(json, 'archives'));
    for (const archive of archives) {
      const size = await stat(join(record, String(part(archive, 'path')))).then(
        (found) => found.size,
        () => -1,
      );
      if (size !== part(archive, 'stored_bytes')) lost.push(`${run}: ${part(archive, 'path')} has ${size} bytes`);
    }
    if (status !== 200 || archives.length === 0) lost.push(run);
  }
  return lost;
}

/** Each appliance's container has a name of its own: LXC renames one with the name of another running container. */
const sharing = (prefix: string, index: number): Body => backupBody(`${prefix}-${index}`, { job_name: 'web' });

async function twoAppliances(t: Test, prefix: string): Promise<readonly Appliance[]> {
  const one = await makeAppliance(t, { flags: ballastFlags });
  const two = await makeAppliance(t, { shares: { test: one.share }, flags: ballastFlags });
  for (const [index, a] of [one, two].entries()) await a.lxc(`${prefix}-${index}`);
  return [one, two];
}

t.test('the record lock of a killed appliance is taken over after ten minutes, not before', async (t) => {
  const [killed, other] = await twoAppliances(t, 'one');
  if (!killed || !other) throw new Error('two appliances');
  await ballast(join(killed.lxcPath, 'one-0/volumes/data/ballast'));
  const first = await killed.service.create('backup', { ...sharing('one', 0), features: [] });
  const holding = heldChild(killed.service, 'tar');
  await killed.service.call('PUT', `/backup/${first}/run`);
  await holding;
  await killed.service.kill();
  const record = recordOf(killed, 'web');
  const [lock = ''] = (await readdir(record)).filter((name) => name.startsWith(lockPrefix));
  const text: unknown = JSON.parse(await readFile(join(record, lock), 'utf8'));
  t.equal(`${lockPrefix}${part(text, 'appliance')}-${first}`, lock);

  const second = await other.service.create('backup', sharing('one', 1));
  await other.service.call('PUT', `/backup/${second}/run`);
  const refused = await other.service.settled('backup', second);
  t.match(refused, { result: -1, error: { code: 'record_in_use', message: new RegExp(lock) } }, 'it waits for half a minute, and says why');
  const elevenMinutesAgo = new Date(Date.now() - 660_000);
  await utimes(join(record, lock), elevenMinutesAgo, elevenMinutesAgo);
  const { run } = await other.service.backUp(second);
  t.same(
    (await readdir(record)).filter((name) => name.startsWith('.')),
    [],
    'neither its lock nor what it had not finished is left',
  );
  t.same(await lostRuns(other, second, [String(run)], record), []);
  await killed.restart();
  t.match(await killed.service.settled('backup', first), { result: -1, error: { code: 'interrupted' } });
  await rm(join(killed.lxcPath, 'one-0/volumes/data/ballast'));
  await killed.service.call('PUT', `/backup/${first}/run`);
  t.match(await killed.service.settled('backup', first), { error: { code: 'record_owned' } }, 'the first is told whose the record is now');
});
